"""Opening, reading, deriving and writing bundles that are directories; every refusal by its words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from modelport.bundle import directory, store
from modelport.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, File, Golden, Manifest, Tolerance, Variant
from modelport.bundle.store import Bundle, labels_file, write_bundle, write_zip
from modelport.errors import BundleError, NotFound, UsageError

Edit = Callable[[dict[str, Any]], None]
Tamper = Callable[[Edit], Path]


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


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
    np.testing.assert_array_equal(item, np.float32([5, 10, 15]))
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
        (lambda m: m.update(format_version=2), "bundle format version 2"),
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


# Reading after opening


def test_a_changed_byte(tiny: Bundle, tiny_files: dict[str, bytes]) -> None:
    changed = bytearray(tiny_files["net.onnx"])
    changed[-1] ^= 1
    (tiny.path / "net.onnx").write_bytes(changed)
    bundle = Bundle.open(tiny.path)  # sizes agree, and digests are asked when a file is read
    for act in (lambda: bundle.read("net.onnx"), bundle.verify_files, lambda: bundle.graph("net")):
        with pytest.raises(BundleError) as caught:
            act()
        assert "'net.onnx' was changed: expected sha256 " in str(caught.value)
        assert hashlib.sha256(changed).hexdigest() in str(caught.value)


@pytest.mark.parametrize(
    ("replace", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[::-1]), "was changed"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes; expected"),
        (lambda path: path.unlink(), "No such file"),
        (
            lambda path: (path.rename(path.parents[2] / "m"), path.symlink_to(path.parents[2] / "m")),
            "cannot read",
        ),
    ],
)
@pytest.mark.parametrize("name", ["labels.txt", "golden/000.npz"])
def test_a_file_replaced_after_opening(
    tiny: Bundle, name: str, replace: Callable[[Path], object], words: str
) -> None:
    before = tiny.read(name)
    replace(tiny.path / name)
    with pytest.raises(BundleError, match=words):
        tiny.read(name)
    assert before  # what was read stays as it was


def test_a_folder_replaced_by_a_link_after_opening(tiny: Bundle, tmp_path: Path) -> None:
    (tiny.path / "golden").rename(tmp_path / "elsewhere")
    (tiny.path / "golden").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"cannot read 'golden/000\.bin': Not a directory"):
        tiny.read("golden/000.bin")


def test_where_a_system_cannot_open_step_by_step(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_OPENS_AT", False)
    tiny.verify_files()
    (tiny.path / "labels.txt").unlink()
    (tiny.path / "labels.txt").symlink_to("net.onnx")
    with pytest.raises(BundleError, match=r"cannot read 'labels\.txt'"):
        tiny.read("labels.txt")


def test_a_manifest_changed_after_opening(tiny: Bundle, tamper: Tamper) -> None:
    tamper(lambda m: m.update(description="other"))
    with pytest.raises(BundleError, match=r"'modelport\.json' was changed"):
        tiny.verify_files()


def test_a_file_added_after_opening(tiny: Bundle) -> None:
    (tiny.path / "more").write_bytes(b"")
    with pytest.raises(BundleError, match="'more' is in the directory"):
        tiny.verify_files()


# Graphs


def test_a_graph_is_audited_once(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(store, "_AUDITED", set())
    monkeypatch.setattr(store, "audit_onnx", lambda data, name: asked.append(name))
    assert tiny.graph("net") == tiny.graph("net") == tiny.read_onnx("net.int8.onnx")
    tiny.graph("post")
    assert asked == ["net.onnx", "post.onnx"]  # the variant has the network's very bytes


def test_the_memory_of_audits_is_bounded(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: set[str] = set()
    monkeypatch.setattr(store, "_AUDITED", remembered)
    monkeypatch.setattr(store, "_AUDITED_MAX", 1)
    for name in ("pre", "net", "post"):
        tiny.graph(name)
        assert len(remembered) == 1


def test_a_graph_that_is_no_onnx(tiny: Bundle) -> None:
    with pytest.raises(BundleError, match="not an ONNX model"):
        tiny.read_onnx("README.md")


def test_a_graph_too_large_is_not_read(tiny: Bundle) -> None:
    files = tiny.manifest.files | {"net.onnx": File("0" * 64, 1 << 31)}
    huge = msgspec.structs.replace(tiny, manifest=msgspec.structs.replace(tiny.manifest, files=files))
    with pytest.raises(
        BundleError, match=r"'net\.onnx' is 2147483648 bytes; an ONNX file is at most 2147483647"
    ):
        huge.graph("net")


# Labels


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"", ()), (b"a", ("a",)), (b"a\nb", ("a", "b")), (b"a\n\nb\n", ("a", "", "b")), (b"\n", ("",))],
)
def test_labels(
    tmp_path: Path,
    tiny_manifest: Manifest,
    tiny_files: dict[str, bytes],
    raw: bytes,
    expected: tuple[str, ...],
) -> None:
    assert write_bundle(tmp_path / "b", tiny_manifest, tiny_files | {"labels.txt": raw}).labels() == expected


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\n", "'labels.txt' is not UTF-8"),
        (b"\xef\xbb\xbfcat\n", "'labels.txt' has a byte order mark"),
        (b"cat\r\ndog\r\n", "'labels.txt' has a carriage return; a line ends in a line feed alone"),
    ],
)
def test_labels_that_are_refused(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], raw: bytes, words: str
) -> None:
    bundle = write_bundle(tmp_path / "b", tiny_manifest, tiny_files | {"labels.txt": raw})
    with pytest.raises(BundleError, match=words):
        bundle.labels()


def test_a_bundle_without_labels(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes]
) -> None:
    manifest = msgspec.structs.replace(tiny_manifest, labels=None)
    assert write_bundle(tmp_path / "b", manifest, tiny_files).labels() == ()


def test_labels_round_trip_or_are_refused() -> None:
    assert labels_file(["猫", "a b"]) == "猫\na b\n".encode()
    assert labels_file([]) == b""
    for bad in ("", "a\nb", "a\r"):
        with pytest.raises(UsageError) as caught:
            labels_file(["ok", bad])
        assert caught.value.at == "$.labels[1]"


# Writing


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes]
) -> None:
    one = write_bundle(tmp_path / "one", tiny_manifest, tiny_files)
    two = write_bundle(tmp_path / "two", tiny_manifest, dict(reversed(tiny_files.items())))
    assert one.digest == two.digest
    assert contents(one.path) == contents(two.path)
    assert list(one.manifest.files) == sorted(tiny_files)


def test_nothing_else_is_left(tiny: Bundle) -> None:
    assert os.listdir(tiny.path.parent) == ["1"]


def test_others_may_read_it(tiny: Bundle) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert tiny.path.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tiny.path / "net.onnx").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("what", ["bundle", "empty folder", "dangling link"])
def test_an_existing_target(
    tiny: Bundle, tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], what: str
) -> None:
    out = tiny.path
    if what == "empty folder":
        out = tmp_path / "empty"
        out.mkdir()
    if what == "dangling link":
        out = tmp_path / "link"
        out.symlink_to("nowhere")
    with pytest.raises(UsageError) as caught:
        write_bundle(out, tiny_manifest, tiny_files)
    assert f"{str(out)!r} exists; a bundle is never changed in place" in str(caught.value)
    assert "choose another version, or remove it" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "a/b"}, "matching regex"),
        ({"labels": "none.txt"}, "'none.txt' is used but not among"),
        ({"variants": (Variant("x", "net.onnx", {"error": float("nan")}),)}, "infinite or NaN"),
        ({"golden": Golden("torch", False, (), net=Tolerance(float("inf")))}, "Expected `float`"),
        ({"description": "x" * (4 << 20)}, "at most 4194304 are read"),
    ],
)
def test_what_no_reader_would_take_is_not_written(
    tmp_path: Path,
    tiny_manifest: Manifest,
    tiny_files: Mapping[str, bytes],
    change: dict[str, Any],
    words: str,
) -> None:
    manifest = msgspec.structs.replace(tiny_manifest, **change)
    with pytest.raises(BundleError, match=words):
        write_bundle(tmp_path / "repo" / "b", manifest, tiny_files)
    assert not (tmp_path / "repo").exists()


def test_a_name_that_leads_out_is_not_written(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes]
) -> None:
    with pytest.raises(BundleError, match=r"'\.\./evil' has the segment"):
        write_bundle(tmp_path / "b", tiny_manifest, tiny_files | {"../evil": b""})
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BundleError, match=r"cannot write .*: No space left on device"):
        write_bundle(tmp_path / "b", tiny_manifest, tiny_files)
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(old: Path, new: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "b", tiny_manifest, tiny_files)
    assert os.listdir(tmp_path) == []


def test_a_target_that_appears_meanwhile(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(old: Path, new: Path) -> None:
        new.mkdir()
        (new / "other").write_bytes(b"")
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(BundleError, match=r"cannot write .*: Directory not empty"):
        write_bundle(tmp_path / "b", tiny_manifest, tiny_files)
    assert contents(tmp_path) == {"b/other": b""}


# Deriving and copying


def test_derive(tiny: Bundle, tmp_path: Path, tiny_files: dict[str, bytes]) -> None:
    before = contents(tiny.path)
    new = tiny.derive(
        tmp_path / "repo" / "tiny" / "2",
        {"README.md": b"# second\n", "golden/000.bin": None, "golden/000.npz": None, "notes.txt": b"x"},
        version="2",
        golden=None,
        description="second",
    )
    assert contents(tiny.path) == before
    assert new.manifest.lineage.parent == tiny.digest
    assert new.manifest.lineage.source == tiny.manifest.lineage.source
    assert (new.manifest.version, new.manifest.description) == ("2", "second")
    assert set(new.manifest.files) == set(tiny_files) - {"golden/000.bin", "golden/000.npz"} | {"notes.txt"}
    assert new.read("README.md") == b"# second\n"
    assert new.read("net.onnx") == tiny_files["net.onnx"]
    new.verify_files()
    assert Bundle.open(tmp_path / "repo" / "tiny") == new


def test_derive_needs_another_version(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        tiny.derive(tmp_path / "x", {})
    assert "tiny 1 is the bundle it would be derived from" in str(caught.value)
    assert "give the new bundle another version" in str(caught.value)


def test_derive_leaves_out_only_what_is_there(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no file 'typo'"):
        tiny.derive(tmp_path / "x", {"typo": None}, version="2")


def test_derive_leaves_out_nothing_that_is_used(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"'labels\.txt' is used but not among the bundle's files at `\$.labels`"
    ):
        tiny.derive(tmp_path / "x", {"labels.txt": None}, version="2")


@pytest.mark.parametrize("field", ["lineage", "format", "format_version"])
def test_derive_sets_some_fields_itself(tiny: Bundle, tmp_path: Path, field: str) -> None:
    with pytest.raises(TypeError, match="derive sets lineage and format itself"):
        tiny.derive(tmp_path / "x", {}, version="2", **{field: None})


def test_derive_from_a_damaged_bundle_writes_nothing(tiny: Bundle, tmp_path: Path) -> None:
    (tiny.path / "labels.txt").write_bytes(b"cat\ncog\n\xe9\xb8\x9f\n")
    with pytest.raises(BundleError, match=r"'labels\.txt' was changed"):
        tiny.derive(tmp_path / "out" / "2", {}, version="2")
    assert os.listdir(tmp_path / "out") == []


def test_a_copy_has_the_same_digest_whatever_its_manifest_looks_like(
    tiny: Bundle, tmp_path: Path, tamper: Tamper
) -> None:
    tamper(lambda m: None)  # other white space than ours
    loose = Bundle.open(tiny.path)
    assert loose.digest != tiny.digest
    copy = loose.save_as(tmp_path / "copy")
    assert copy.digest == loose.digest
    assert contents(copy.path) == contents(loose.path)
    assert json.loads(copy.read(MANIFEST)) == json.loads(loose.read(MANIFEST))


def test_to_an_archive_and_back(tiny: Bundle, tmp_path: Path) -> None:
    archive = tiny.save_as(tmp_path / "tiny.zip")
    assert archive.path == tmp_path / "tiny.zip"
    assert archive.digest == tiny.digest
    archive.verify_files()
    assert archive.graph("net") == tiny.graph("net")
    back = archive.save_as(tmp_path / "back")
    assert contents(back.path) == contents(tiny.path)


def test_an_archive_is_the_same_bytes_again(tiny: Bundle, tmp_path: Path) -> None:
    one = write_zip(tiny, tmp_path / "1.zip").path.read_bytes()
    assert write_zip(Bundle.open(tmp_path / "1.zip"), tmp_path / "2.zip").path.read_bytes() == one


def test_an_archive_is_called_zip_and_is_new(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a name that ends in \.zip"):
        write_zip(tiny, tmp_path / "x.tar")
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(UsageError, match="exists"):
        write_zip(tiny, tmp_path / "x.zip")


def test_an_archive_of_a_damaged_bundle_is_not_written(tiny: Bundle, tmp_path: Path) -> None:
    (tiny.path / "labels.txt").write_bytes(b"")
    with pytest.raises(BundleError, match=r"'labels\.txt' is 0 bytes; expected"):
        write_zip(tiny, tmp_path / "out" / "x.zip")
    assert os.listdir(tmp_path / "out") == []
