"""Reading a bundle's files, graphs and labels: what changed after opening is found out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from modelport.bundle import directory, store
from modelport.bundle.manifest import File, Manifest
from modelport.bundle.store import Bundle, labels_file, write_bundle
from modelport.errors import BundleError, UsageError

from .looking import Tamper

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
