"""Opening and reading bundles that are directories; every refusal by its words."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.bundle import directory
from modelport.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES
from modelport.bundle.store import Bundle
from modelport.errors import BundleError, NotFound

from .looking import Edit, Tamper, refusal

# What opening gives


def test_opens_and_reads(tiny: Bundle, tiny_files: dict[str, bytes]) -> None:
    bundle = Bundle.open(str(tiny.path))
    assert bundle == tiny
    assert {name: bundle.read(name) for name in bundle.manifest.files} == tiny_files
    assert bundle.labels() == ("cat", "dog", "鸟")
    assert bundle.read(MANIFEST) == (tiny.path / MANIFEST).read_bytes()
    assert bundle.digest == hashlib.sha256(bundle.read(MANIFEST)).hexdigest()
    bundle.verify_files()


def test_the_graphs_run(tiny: Bundle) -> None:
    import onnxruntime as ort

    image = np.full((4, 5, 3), [10, 20, 30], np.uint8)

    def run(name: Any, feed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        session = ort.InferenceSession(tiny.graph(name))
        (result,) = session.run(None, {session.get_inputs()[0].name: feed})
        return np.asarray(result)

    item = run("pre", image)
    np.testing.assert_array_equal(item, np.array([5, 10, 15], np.float32))
    np.testing.assert_allclose(run("net", item[None]), [[12, 15, 18]], rtol=1e-6)
    scores = run("post", run("net", np.stack([item, item])))
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_importing_and_opening_bring_in_no_onnx(tiny: Bundle) -> None:
    code = (
        "import sys; from modelport.bundle.store import Bundle\n"
        f"Bundle.open({str(tiny.path)!r}).verify_files()\n"
        "heavy = {'onnx', 'onnxruntime', 'torch', 'google'} & {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_not_named(tiny: Bundle) -> None:
    with pytest.raises(NotFound) as caught:
        tiny.read("../../secret")
    assert "the bundle tiny 1 has no file '../../secret'" in str(caught.value)
    assert "labels.txt" in str(caught.value)


# The directory


def test_the_root_may_be_reached_through_a_link(tiny: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(tiny.path, target_is_directory=True)
    bundle = Bundle.open(link)
    assert bundle.path == tiny.path.resolve()
    link.unlink()  # moved to another version while this one is in use
    assert bundle.labels()


@pytest.mark.parametrize("name", ["notes.txt", "golden/001.bin", ".DS_Store", "extra/", "golden/more/"])
def test_a_file_or_folder_that_is_not_named(tiny: Bundle, name: str) -> None:
    if name.endswith("/"):
        (tiny.path / name).mkdir()
    else:
        (tiny.path / name).write_bytes(b"")
    message = refusal(tiny.path)
    assert f"{name.removesuffix('/')!r} is in the directory but not in modelport.json" in message
    assert "take it out" in message


def test_a_name_that_is_not_unicode(tiny: Bundle) -> None:
    (Path(os.fsdecode(os.fsencode(tiny.path) + b"/\xff"))).write_bytes(b"")
    assert "'\\udcff' is in the directory but not in modelport.json" in refusal(tiny.path)


@pytest.mark.parametrize("name", ["net.onnx", "golden/000.npz"])
def test_a_missing_file(tiny: Bundle, name: str) -> None:
    (tiny.path / name).unlink()
    assert f"the file {name!r} is missing" in refusal(tiny.path)


def test_a_missing_folder(tiny: Bundle) -> None:
    shutil.rmtree(tiny.path / "golden")
    assert "the file 'golden/000.bin' is missing" in refusal(tiny.path)


def test_another_size(tiny: Bundle, tiny_files: dict[str, bytes]) -> None:
    (tiny.path / "net.onnx").write_bytes(b"12")
    message = refusal(tiny.path)
    assert f"'net.onnx' is 2 bytes; the manifest says {len(tiny_files['net.onnx'])}" in message
    assert f"at `{tiny.path}`" in message


@pytest.mark.parametrize("name", ["labels.txt", "golden", MANIFEST])
def test_a_link_inside(tiny: Bundle, tmp_path: Path, name: str) -> None:
    moved = tmp_path / "moved"
    (tiny.path / name).rename(moved)
    (tiny.path / name).symlink_to(moved)
    assert f"{name!r} is a symbolic link, not a regular file" in refusal(tiny.path)


def test_a_link_that_leads_nowhere_and_is_not_named(tiny: Bundle) -> None:
    (tiny.path / "link").symlink_to("/nowhere")
    assert "'link' is a symbolic link" in refusal(tiny.path)


def test_a_fifo_does_not_hang(tiny: Bundle) -> None:
    (tiny.path / "labels.txt").unlink()
    os.mkfifo(tiny.path / "labels.txt")
    assert "'labels.txt' is a FIFO, not a regular file" in refusal(tiny.path)
    with pytest.raises(BundleError, match=r"'labels\.txt' is a FIFO, not a regular file"):
        tiny.read("labels.txt")


def test_a_manifest_that_is_a_fifo(tiny: Bundle) -> None:
    (tiny.path / MANIFEST).unlink()
    os.mkfifo(tiny.path / MANIFEST)
    assert "'modelport.json' is a FIFO" in refusal(tiny.path)


def test_a_socket(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny.path / "labels.txt").unlink()
    monkeypatch.chdir(tiny.path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("labels.txt")
        assert "'labels.txt' is a socket" in refusal(tiny.path)


def test_a_device(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    # Making one needs a privilege, so this one lends its status to a file.
    real = os.lstat
    odd = tiny.path / "labels.txt"
    monkeypatch.setattr(os, "lstat", lambda path, **more: real("/dev/null" if path == odd else path, **more))
    assert "'labels.txt' is a device" in refusal(tiny.path)


def test_a_folder_where_a_file_belongs(tiny: Bundle) -> None:
    (tiny.path / "labels.txt").unlink()
    (tiny.path / "labels.txt").mkdir()
    assert "'labels.txt' is a folder, not a regular file" in refusal(tiny.path)
    with pytest.raises(BundleError, match=r"'labels\.txt' is a folder, not a regular file"):
        tiny.read("labels.txt")


def test_a_file_where_a_folder_belongs(tiny: Bundle) -> None:
    shutil.rmtree(tiny.path / "golden")
    (tiny.path / "golden").write_bytes(b"")
    assert "'golden' is in the directory but not in modelport.json" in refusal(tiny.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(tiny: Bundle) -> None:
    (tiny.path / "labels.txt").chmod(0)
    with pytest.raises(BundleError, match=r"cannot read 'labels\.txt': Permission denied"):
        tiny.read("labels.txt")


def test_a_folder_that_cannot_be_listed(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def listdir(path: Path) -> list[str]:
        if path == tiny.path / "golden":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert "cannot list 'golden/': Permission denied" in refusal(tiny.path)


def test_a_file_that_goes_while_the_folder_is_walked(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*real(path), "gone"])
    assert "cannot read 'gone': No such file or directory" in refusal(tiny.path)


# The manifest


def test_a_manifest_too_long_is_not_read(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tiny.path / MANIFEST).open("r+b") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    monkeypatch.setattr(directory.DirectoryFiles, "read", lambda *_: pytest.fail("it was read"))
    assert "modelport.json is 4194305 bytes; at most 4194304 are read" in refusal(tiny.path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: m["files"].update({"../evil": {"sha256": "0" * 64, "size": 0}}), "has the segment '..'"),
        (lambda m: m["files"].update({"/etc/passwd": {"sha256": "0" * 64, "size": 0}}), "is absolute"),
        (lambda m: m["files"].update({"NET.onnx": {"sha256": "0" * 64, "size": 0}}), "where case is ignored"),
        (lambda m: m["graphs"]["net"].update(file="other.onnx"), "at `{path}: $.graphs.net.file`"),
        (lambda m: m.update(labels="/etc/passwd"), "'/etc/passwd' is used but not among"),
        (lambda m: m.update(format_version=3), "bundle format version 3"),
        (lambda m: m.update(format="other"), "has format 'other'"),
        (lambda m: m["files"]["net.onnx"].update(size=1), "the manifest says 1"),
        (lambda m: m.update(hooks={"open": "os:system"}), "unknown field `hooks`"),
    ],
)
def test_a_manifest_that_lies(tiny: Bundle, tamper: Tamper, edit: Edit, words: str) -> None:
    message = refusal(tamper(edit))
    assert words.format(path=tiny.path) in message
    assert str(tiny.path) in message


def test_a_huge_size_allocates_nothing(tiny: Bundle, tamper: Tamper) -> None:
    path = tamper(lambda m: m["files"]["net.onnx"].update(size=1 << 52))
    assert "the manifest says 4503599627370496" in refusal(path)
