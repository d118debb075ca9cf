"""YOLO text, COCO JSON, crops and names: as the readers of these formats expect them."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from modelport.errors import UsageError
from modelport.media.outputs import (
    CocoFile,
    OutputNames,
    check_apart,
    write_crops,
    write_picture,
    write_whole,
    yolo_text,
)

FOUND = [
    {"label": "red", "class": 0, "score": 0.75, "box": [10.0, 20.0, 50.0, 100.0]},
    {"label": "a/b", "class": 2, "score": 0.5, "box": [-5.0, -5.0, 0.2, 0.2]},
]


def test_yolo_lines_are_middles_and_sizes_as_shares() -> None:
    assert yolo_text(FOUND[:1], 200, 200) == "0 0.150000 0.300000 0.200000 0.400000\n"
    assert yolo_text(FOUND[:1], 200, 200, scores=True).split()[5] == "0.750000"
    assert yolo_text([], 10, 10) == ""


def test_coco_files_hold_pictures_boxes_and_categories(tmp_path: Path) -> None:
    file = CocoFile(tmp_path / "deep" / "all.json", ["red", "green"])
    file.add("a.jpg", 200, 100, FOUND)
    file.add("b.jpg", 20, 10, [])
    assert not list(tmp_path.rglob("*.json"))
    file.close()
    read = json.loads((tmp_path / "deep" / "all.json").read_text())
    assert [image["file_name"] for image in read["images"]] == ["a.jpg", "b.jpg"]
    first = read["annotations"][0]
    assert first["bbox"] == [10, 20, 40, 80] and first["area"] == 3200 and first["image_id"] == 1
    assert first["score"] == 0.75 and first["iscrowd"] == 0
    assert read["categories"] == [
        {"id": 0, "name": "red"},
        {"id": 1, "name": "green"},
        {"id": 2, "name": "a/b"},
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["all.json"]
    CocoFile(tmp_path / "none.json", []).close()
    assert json.loads((tmp_path / "none.json").read_text())["images"] == []


def test_a_coco_reader_takes_the_file(tmp_path: Path) -> None:
    reader = pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval")
    file = CocoFile(tmp_path / "all.json", ["red"])
    file.add("a.jpg", 200, 100, FOUND[:1])
    file.close()
    truth = reader.COCO(str(tmp_path / "all.json"))
    assert len(truth.loadRes(truth.dataset["annotations"]).getAnnIds()) == 1


def test_crops_are_what_is_in_the_boxes(tmp_path: Path) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[20:100, 10:50] = (200, 30, 30)
    write_crops(tmp_path, PurePosixPath("in/a"), picture, FOUND)
    crop = Image.open(tmp_path / "red" / "in" / "a-0.jpg")
    assert crop.size == (40, 80) and abs(crop.getpixel((20, 40))[0] - 200) < 8
    assert [path.name for path in tmp_path.iterdir()] == ["red"]


def test_outputs_keep_their_relative_names_and_do_not_meet() -> None:
    names = OutputNames()
    assert str(names.of("/x/in/a.jpg", "in/a.jpg", ".jpg")) == "in/a.jpg"
    assert str(names.of("/y/in/a.jpg", "in/a.jpg", ".jpg")) == "in/a-2.jpg"
    assert str(names.of("/x/in/a.jpg", "in/a.jpg", ".jpg")) == "in/a.jpg"
    assert str(names.of("/z/a.png", "A.png", ".txt")) == "A.txt"
    assert str(names.of("/z/a.jpg", "a.jpg", ".txt")) == "a-2.txt"
    assert str(names.of("/q", "../../etc/pass:wd.jpg", ".txt")) == "_/_/etc/pass_wd.txt"
    assert str(names.of("/鹅.jpg", "鹅.jpg", ".txt")) == "鹅.txt"
    long = str(names.of("/long", "鹅" * 300 + ".jpg", ".txt"))
    assert len(long.encode()) < 220 and long.endswith("鹅.txt")
    assert names.of("/longer", "鹅" * 301 + ".jpg", ".txt").name.endswith("鹅-2.txt")


def test_files_are_there_complete_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.txt", b"x")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"x"
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a" / "b.txt").stat().st_mode & 0o777 == 0o666 & ~mask
    (tmp_path / "a" / "folder.txt").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "a" / "folder.txt", b"x")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.txt", "folder.txt"]


def test_long_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / str(OutputNames().of("/a", "鹅" * 300 + ".jpg", ".txt"))
    write_whole(path, b"x")
    assert path.read_bytes() == b"x"


def test_pictures_take_the_kind_of_their_ending(tmp_path: Path) -> None:
    for name, kind in (("a.png", "PNG"), ("a.webp", "WEBP"), ("a.jpg", "JPEG"), ("a.jpeg", "JPEG")):
        write_picture(tmp_path / name, np.zeros((5, 7, 3), np.uint8))
        with Image.open(tmp_path / name) as image:
            assert image.format == kind and image.size == (7, 5)


def test_the_input_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="written over"):
        check_apart(tmp_path / "link.jpg", str(tmp_path / "a.jpg"))
    check_apart(tmp_path / "b.jpg", str(tmp_path / "a.jpg"))
    check_apart(tmp_path / "a.jpg", "http://host/a.jpg")
