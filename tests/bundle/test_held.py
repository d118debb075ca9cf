"""Files that are held while something else comes to lie in their place."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from modelport.bundle import held as module
from modelport.bundle.held import HeldFiles
from modelport.bundle.store import Bundle
from modelport.errors import BundleError

from ..colours import pack_colours


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("held")) / "colours" / "1"


def of_kind(packed: Path, kind: str, out: Path) -> Path:
    if kind == "folder":
        return Path(shutil.copytree(packed, out / "1"))
    Bundle.open(packed).save_as(out / "1.zip")
    if kind == "stored":
        return out / "1.zip"
    with (
        zipfile.ZipFile(out / "1.zip") as old,
        zipfile.ZipFile(out / "2.zip", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return out / "2.zip"


@pytest.mark.parametrize("kind", ["folder", "stored", "deflated"])
@pytest.mark.parametrize("copied", [0, 1 << 30])
def test_a_held_bundle_outlives_its_place(
    packed: Path, kind: str, copied: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COPIED_BYTES", copied)
    place = of_kind(packed, kind, tmp_path)
    bundle = Bundle.open(place).held()
    assert isinstance(bundle.source, HeldFiles) and bundle.held() is bundle
    files = 1 + len(bundle.manifest.files)
    assert len(bundle.source.descriptors) == (1 + files if not copied and kind != "deflated" else 1)
    # All are removed, others take their names.
    if place.is_dir():
        shutil.rmtree(place)
        place.mkdir()
        (place / "modelport.json").write_text("{}")
    else:
        place.unlink()
        place.write_bytes(b"PK")
    again = Bundle.inherited(HeldFiles.inherited(bundle.path, bundle.source.index))
    for each in (bundle, again):
        each.verify_files()
        assert each.digest == Bundle.open(packed).digest
        assert all(each.read(name) == (packed / name).read_bytes() for name in each.manifest.files)


def test_a_large_file_that_is_overwritten_where_it_is_is_told_by_its_digest(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COPIED_BYTES", 0)
    place = of_kind(packed, "folder", tmp_path)
    bundle = Bundle.open(place).held()
    size = bundle.manifest.files["net.onnx"].size
    (place / "net.onnx").write_bytes(bytes(size))
    with pytest.raises(BundleError, match=r"'net\.onnx' was changed"):
        bundle.read("net.onnx")
    (place / "net.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=f"is 0 bytes; expected {size}"):
        bundle.graph("net")


def test_one_that_was_changed_since_it_was_opened_is_not_held_and_nothing_stays_open(
    packed: Path, tmp_path: Path
) -> None:
    place = of_kind(packed, "folder", tmp_path)
    bundle = Bundle.open(place)
    before = len(os.listdir("/dev/fd"))
    kept = bundle.held()
    assert len(os.listdir("/dev/fd")) > before
    del kept
    (place / "net.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="expected"):
        bundle.held()
    assert len(os.listdir("/dev/fd")) == before
