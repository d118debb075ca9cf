"""Bundles that are archives: the same rules, and what only an archive can do wrong."""

from __future__ import annotations

import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from modelport.bundle import archive
from modelport.bundle.archive import MAX_CONTENTS_BYTES, ZipFiles, pack
from modelport.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, File, Manifest, encode_manifest
from modelport.bundle.store import Bundle
from modelport.errors import BundleError

Change = Callable[[zipfile.ZipInfo], None]


def write(
    path: Path,
    entries: Iterable[tuple[str, bytes]],
    change: Change = lambda info: None,
    method: int = zipfile.ZIP_STORED,
) -> Path:
    """An archive as anybody may write one; `change` edits the entry called `labels.txt`, however deep."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")  # zipfile warns of double names
        for name, data in entries:
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.compress_type = method
            if name.endswith("labels.txt"):
                change(info)
            file.writestr(info, data)
    return path


@pytest.fixture
def entries(tiny: Bundle) -> list[tuple[str, bytes]]:
    return [(name, tiny.read(name)) for name in (MANIFEST, *tiny.manifest.files)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.zip"


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def patch(path: Path, offset: int, form: str, *values: int, signature: bytes = b"PK\x01\x02") -> None:
    """Overwrite fields of the last record with this signature (the last entry of the contents)."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.rfind(signature) + offset, *values)
    path.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["", "tiny/1/", "any/", "a/b/c/"])
def test_opens_and_reads(
    tiny: Bundle, entries: list[tuple[str, bytes]], path: Path, prefix: str, method: int
) -> None:
    bundle = Bundle.open(write(path, [(prefix + name, data) for name, data in entries], method=method))
    assert bundle.digest == tiny.digest
    bundle.verify_files()
    assert [(name, bundle.read(name)) for name, _ in entries] == entries
    assert bundle.graph("net") == tiny.graph("net")


def test_folders_of_named_files_may_be_entries(entries: list[tuple[str, bytes]], path: Path) -> None:
    folders = [("t/", b""), ("t/1/", b""), ("t/1/golden/", b"")]
    Bundle.open(write(path, [*folders, *((f"t/1/{name}", data) for name, data in entries)])).verify_files()


def test_a_manifest_deeper_down_is_a_file_like_any_other(
    entries: list[tuple[str, bytes]], path: Path
) -> None:
    message = refusal(write(path, [*entries, ("golden/modelport.json", b"{}")]))
    assert "'golden/modelport.json' is in the archive but not in modelport.json" in message


# Names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("more.txt", "'more.txt' is in the archive but not in modelport.json"),
        ("more/", "'more/' is in the archive but not in modelport.json"),
        ("../evil", "entry '../evil' has the segment '..'"),
        ("golden/../../evil", "has the segment '..'"),
        ("/etc/passwd", "entry '/etc/passwd' is absolute"),
        ("a\\b", "has a backslash"),
        ("C:evil", "has ':'"),
        ("golden//000.bin", "has an empty segment"),
        ("/", "has an empty segment"),
        ("LABELS.TXT", "'LABELS.TXT' is in the archive but not in modelport.json"),
        ("labels.txt", "the archive holds 'labels.txt' twice"),
        (MANIFEST, "the archive holds 'modelport.json' twice"),
        ("labels.txt/", "'labels.txt/' is in the archive but not in modelport.json"),
    ],
)
def test_an_entry_that_may_not_be_there(
    entries: list[tuple[str, bytes]], path: Path, name: str, words: str
) -> None:
    assert words in refusal(write(path, [*entries, (name, b"")]))


def test_a_file_outside_the_common_folder(entries: list[tuple[str, bytes]], path: Path) -> None:
    message = refusal(write(path, [*((f"t/1/{name}", data) for name, data in entries), ("t/readme", b"")]))
    assert "'t/readme' is in the archive but not in t/1/modelport.json" in message


def test_two_bundles_in_one_archive(entries: list[tuple[str, bytes]], path: Path) -> None:
    both = [(f"t/{version}/{name}", data) for version in (1, 2) for name, data in entries]
    assert "is in the archive but not in t/1/modelport.json" in refusal(write(path, both))


def test_a_name_cut_by_a_null_byte(entries: list[tuple[str, bytes]], path: Path) -> None:
    write(path, entries, method=zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(b"labels.txt", b"labels.tx\0"))
    assert "entry 'labels.tx\\x00' is spelt in two ways" in refusal(path)


def test_a_name_that_differs_between_contents_and_header(
    entries: list[tuple[str, bytes]], path: Path
) -> None:
    write(path, entries, method=zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(b"README.md", b"README.xx", 1))  # the header comes first
    with pytest.raises(BundleError, match=r"the archive cannot be read: File name in directory .* differ"):
        Bundle.open(path).read("README.md")


# Kinds


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (stat.S_IFLNK | 0o777, "entry 'labels.txt' is a symbolic link"),
        (stat.S_IFIFO | 0o644, "entry 'labels.txt' is not a regular file"),
        (stat.S_IFCHR | 0o644, "is not a regular file"),
        (stat.S_IFBLK | 0o644, "is not a regular file"),
        (stat.S_IFDIR | 0o755, "is not a regular file"),
    ],
)
def test_an_entry_that_is_no_regular_file(
    entries: list[tuple[str, bytes]], path: Path, mode: int, words: str
) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.create_system, info.external_attr = 3, mode << 16

    assert words in refusal(write(path, entries, change))


def test_a_folder_that_is_a_link(entries: list[tuple[str, bytes]], path: Path) -> None:
    write(path, [*entries, ("golden/", b"")])
    patch(path, 38, "<I", (stat.S_IFLNK | 0o777) << 16)
    assert "entry 'golden/' is a symbolic link" in refusal(path)


def test_a_folder_with_content(entries: list[tuple[str, bytes]], path: Path) -> None:
    write(path, [*entries, ("golden/", b"hidden")])
    assert "entry 'golden/' is a folder with content" in refusal(path)


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x41])
def test_an_encrypted_entry(entries: list[tuple[str, bytes]], path: Path, flag: int) -> None:
    write(path, entries)
    patch(path, 8, "<H", flag)
    assert "is encrypted" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression(entries: list[tuple[str, bytes]], path: Path, method: int) -> None:
    message = refusal(write(path, entries, method=method))
    assert f"is compressed by method {method}; only stored and deflated are read" in message


# Sizes


def test_a_missing_file(entries: list[tuple[str, bytes]], path: Path) -> None:
    message = refusal(write(path, [entry for entry in entries if entry[0] != "net.onnx"]))
    assert "the file 'net.onnx' is missing" in message


def test_another_size_than_the_manifest_says(entries: list[tuple[str, bytes]], path: Path) -> None:
    changed = [(name, data + b"x" if name == "labels.txt" else data) for name, data in entries]
    assert "'labels.txt' is 13 bytes; the manifest says 12" in refusal(write(path, changed))


def test_another_content_than_the_manifest_says(entries: list[tuple[str, bytes]], path: Path) -> None:
    changed = [(name, data[::-1] if name == "labels.txt" else data) for name, data in entries]
    bundle = Bundle.open(write(path, changed))
    for act in (lambda: bundle.read("labels.txt"), bundle.verify_files):
        with pytest.raises(BundleError, match=r"'labels\.txt' was changed: expected sha256"):
            act()


def bomb(path: Path, manifest: Manifest, size: int, method: int) -> Path:
    """Zeros that a manifest names honestly: what such an archive says is true, and that is the trouble."""
    import hashlib

    import msgspec

    sha256 = hashlib.sha256()
    with zipfile.ZipFile(path, "w", method) as file:
        with file.open("zeros", "w", force_zip64=True) as zeros:
            for _ in range(size >> 20):
                zeros.write(bytes(1 << 20))
                sha256.update(bytes(1 << 20))
        files = {"zeros": File(sha256.hexdigest(), size)}
        file.writestr(MANIFEST, encode_manifest(msgspec.structs.replace(manifest, files=files)))
    return path


def test_a_bomb_is_refused_before_it_is_inflated(
    tiny_manifest: Manifest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(path, tiny_manifest, 256 << 20, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(archive, "_read", lambda *_: pytest.fail("it was inflated"))
    message = refusal(path)
    assert "entry 'zeros' would inflate " in message
    assert "to 268435456; at most 100-fold is read" in message


def test_the_same_zeros_stored_are_no_bomb(tiny_manifest: Manifest, path: Path) -> None:
    bomb(path, tiny_manifest, 32 << 20, zipfile.ZIP_STORED)
    assert len(ZipFiles(path).read("zeros", 32 << 20)) == 32 << 20


def test_a_stored_entry_that_claims_to_be_more(entries: list[tuple[str, bytes]], path: Path) -> None:
    write(path, entries)
    patch(path, 24, "<I", 1 << 30)
    assert "is stored, yet" in refusal(path)


def test_more_compressed_bytes_than_the_archive_has(entries: list[tuple[str, bytes]], path: Path) -> None:
    """Entries that overlap, or that claim bytes so as to look less compressed than they are."""
    write(path, entries, method=zipfile.ZIP_DEFLATED)
    patch(path, 20, "<I", 1 << 30)
    assert "compressed bytes and is" in refusal(path)


def test_an_entry_that_inflates_to_less_than_it_claims(
    tiny_manifest: Manifest, entries: list[tuple[str, bytes]], path: Path
) -> None:
    write(path, [*entries, ("zz", b"1234")], method=zipfile.ZIP_DEFLATED)
    patch(path, 24, "<I", 5)
    with pytest.raises(BundleError, match="'zz' inflates to 4 bytes; it claims 5"):
        ZipFiles(path).read("zz", 5)


def test_a_manifest_too_long_is_not_inflated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [(MANIFEST, b" " * (MAX_MANIFEST_BYTES + 1))], method=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(archive, "_read", lambda *_: pytest.fail("it was inflated"))
    assert "modelport.json is 4194305 bytes; at most 4194304 are read" in refusal(path)


def test_a_table_of_contents_too_long_is_not_read(entries: list[tuple[str, bytes]], path: Path) -> None:
    write(path, entries)
    with path.open("r+b") as file:  # room for what it claims, as a hole in the file
        tail = path.read_bytes()[-22:]
        file.truncate(MAX_CONTENTS_BYTES * 3)
        file.seek(0, os.SEEK_END)
        file.write(tail)
    patch(path, 12, "<II", MAX_CONTENTS_BYTES + 1, 0, signature=b"PK\x05\x06")
    assert f"a table of contents of {MAX_CONTENTS_BYTES + 1} bytes" in refusal(path)


# Damage, and changes after opening


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not a zip file"),
        (b"PK\x03\x04", "not a zip file"),
        (b"PK\x05\x06" + bytes(18), "holds no modelport"),
    ],
)
def test_no_archive_at_all(path: Path, raw: bytes, words: str) -> None:
    path.write_bytes(raw)
    assert words in refusal(path)


def test_an_archive_of_something_else(path: Path) -> None:
    message = refusal(write(path, [("photo.jpg", b"")]))
    assert "the archive holds no modelport.json" in message
    assert "`modelport pack`" in message


def test_every_truncation_is_refused(tiny: Bundle, tmp_path: Path, path: Path) -> None:
    whole = tiny.save_as(tmp_path / "whole.zip").path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        refusal(path)


def test_an_archive_that_may_not_be_read(path: Path, entries: list[tuple[str, bytes]]) -> None:
    bundle = Bundle.open(write(path, entries))
    path.unlink()
    with pytest.raises(BundleError, match="the archive cannot be read: No such file or directory"):
        bundle.read("labels.txt")


def test_an_archive_replaced_after_opening(path: Path, entries: list[tuple[str, bytes]]) -> None:
    bundle = Bundle.open(write(path, entries))
    changed = [
        (name, data.replace(b"cat", b"cow") if name == "labels.txt" else data) for name, data in entries
    ]
    write(path, changed)
    with pytest.raises(BundleError, match=r"'labels\.txt' was changed"):
        bundle.labels()
    assert bundle.read("net.onnx")
    write(path, [(name, data) for name, data in entries if name != "labels.txt"])
    with pytest.raises(BundleError, match=r"the file 'labels\.txt' is missing"):
        bundle.labels()
    write(path, [(name, data * 2 if name == "labels.txt" else data) for name, data in entries])
    with pytest.raises(BundleError, match=r"'labels\.txt' is 24 bytes; expected 12"):
        bundle.labels()


def test_pack_depends_on_its_arguments_alone(tmp_path: Path) -> None:
    files = [("a", b"1"), ("b/c", b"2")]
    pack(tmp_path / "1.zip", "n/1/", files)
    umask = os.umask(0o077)
    try:
        pack(tmp_path / "2.zip", "n/1/", files)
    finally:
        os.umask(umask)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as file:
        assert file.testzip() is None
        assert [info.filename for info in file.infolist()] == ["n/1/a", "n/1/b/c"]
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in file.infolist()} == {stat.S_IFREG | 0o644}
        assert {info.create_system for info in file.infolist()} == {3}  # Unix, so that the mode counts
