"""Writing, deriving and copying bundles: whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelport.bundle import store
from modelport.bundle.manifest import MANIFEST, Golden, Manifest, Tolerance, Variant
from modelport.bundle.store import Bundle, write_bundle, write_zip
from modelport.errors import BundleError, NotFound, UsageError

from .looking import Tamper, contents

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


def test_everything_is_on_disk_before_it_has_its_name(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    real_sync, real_rename = os.fsync, os.rename

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        real_sync(handle)

    def rename(old: Path, new: Path) -> None:
        assert {path.stat().st_ino for path in (old, *old.rglob("*"))} <= synced
        real_rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    bundle = write_bundle(tmp_path / "b", tiny_manifest, tiny_files)
    assert tmp_path.stat().st_ino in synced  # the new name itself
    assert len(synced) == len(bundle.manifest.files) + 4  # the manifest and three folders


def test_a_file_system_that_adds_something(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: Path, *rest: object, **more: object) -> None:
        if path != tmp_path:
            os.makedirs(path, exist_ok=True)
            (path / ".added").write_bytes(b"")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(os, "rename", lambda *_: pytest.fail("it was given its name"))
    manifest = msgspec.structs.replace(tiny_manifest, golden=None)
    flat = {name: data for name, data in tiny_files.items() if "/" not in name}
    with pytest.raises(BundleError, match=r"'\.added' is in the directory but not in modelport\.json"):
        write_bundle(tmp_path / "b", manifest, flat)
    assert os.listdir(tmp_path) == []


def test_an_archive_that_was_not_written_whole(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "pack", lambda path, prefix, files: path.write_bytes(b"PK"))
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="the archive cannot be read"):
        write_zip(tiny, tmp_path / "out" / "x.zip")
    assert os.listdir(tmp_path / "out") == []


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
