"""Readers of data with known answers: what they take, and how they refuse what makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelport.errors import InputError, ModelportError, NotFound, UsageError
from modelport.evaluate.data import coco, pictures, tables, yolo
from modelport.evaluate.data.names import Classes
from modelport.evaluate.data.read import read_data
from modelport.tensors import TensorSpec

from ..boxes import SCENE, picture_with

YAML = "path: .\nval: images\nnames: [red, green, blue]\n"


def write_yolo(root: Path, labels: dict[str, str], yaml: str = YAML) -> Path:
    """A data set with a picture for each label text; None as text would be a picture without a file."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name, text in labels.items():
        (root / "images" / f"{name}.png").write_bytes(picture_with(SCENE))
        (root / "labels" / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text(yaml)
    return root


def test_yolo_boxes_are_middle_and_size_as_shares(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.25\n2 0.25 0.25 0.5 0.5\n"})
    (root / "images" / "empty.png").write_bytes(picture_with([]))
    data = read_data(root, "object-detection")
    assert [item.name for item in data.items] == ["a.png", "empty.png"]
    assert data.names == ("red", "green", "blue")
    truth = data.items[0].truth.in_pixels(320, 240)
    np.testing.assert_allclose(truth.boxes, [[80, 90, 240, 150], [0, 0, 160, 120]])
    assert truth.classes.tolist() == [0, 2]
    assert len(data.items[1].truth.classes) == 0
    assert any("no label file" in note for note in data.notes)


def test_yolo_polygons_and_doubles(tmp_path: Path) -> None:
    text = "1 0.1 0.2 0.5 0.1 0.4 0.9\n0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n\n"
    data = read_data(write_yolo(tmp_path, {"a": text}), "object-detection")
    np.testing.assert_allclose(data.items[0].truth.boxes[0], [0.1, 0.1, 0.5, 0.9])
    assert len(data.items[0].truth.boxes) == 2
    assert any("twice" in note for note in data.notes)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3 is out of range"),
        ("-1 0.5 0.5 0.1 0.1", "out of range"),
        ("0.5 0.5 0.5 0.1 0.1", "out of range"),
        ("0 nan 0.5 0.1 0.1", "finite"),
        ("0 0.5 0.5 inf 0.1", "finite"),
        ("0 160 120 80 60", "shares of the picture"),
        ("0 0.5 0.5 0 0.1", "a box of size"),
        ("0 0.5 0.5 0.1", "4 fields"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 fields"),
        ("red 0.5 0.5 0.1 0.1", "expected numbers"),
    ],
)
def test_yolo_labels_that_make_no_sense_are_named_by_their_line(tmp_path: Path, line: str, says: str) -> None:
    root = write_yolo(tmp_path, {"a": f"0 0.5 0.5 0.1 0.1\n{line}\n"})
    with pytest.raises(InputError, match=says) as caught:
        read_data(root, "object-detection")
    assert caught.value.at == "labels/a.txt:2"


def test_yolo_labels_without_a_picture_are_a_note(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.1 0.1"}, "names: {0: red}\nval: images/val2017\n")
    (root / "labels" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1")
    data = read_data(root, "object-detection")
    assert [item.name for item in data.items] == ["a.png"]
    assert "label files without a picture, left out: labels/gone.txt" in data.notes
    assert any("val2017, which is not there" in note for note in data.notes)


def test_yolo_splits_lists_and_yaml_files(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        (root / "images" / split / f"{split}.png").write_bytes(picture_with(SCENE))
        (root / "labels" / split / f"{split}.txt").write_text("0 0.5 0.5 0.1 0.1")
    (root / "data.yaml").write_text("names: [red]\ntrain: images/train\nval: images/val\n")
    (root / "list.txt").write_text("./images/train/train.png\n")
    names = [
        [item.name for item in read_data(path, "object-detection", split=split).items]
        for path, split in (
            (root, None),
            (root, "train"),
            (root / "data.yaml", "val"),
            (root / "list.txt", None),
        )
    ]
    assert names == [["val/val.png"], ["train/train.png"], ["val/val.png"], ["train/train.png"]]
    with pytest.raises(InputError, match="no split 'test'"):
        read_data(root, "object-detection", split="test")


def test_yolo_without_any_label_or_picture(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {})
    with pytest.raises(InputError, match="no pictures"):
        read_data(root, "object-detection")
    (root / "images" / "a.png").write_bytes(picture_with([]))
    with pytest.raises(InputError, match=r"none of 1 pictures has a label file.*labels/a\.txt"):
        read_data(root, "object-detection")


@pytest.mark.parametrize("text", ["names: [", "- a\n", "names: {0: a, 2: b}\nval: images\n", "names: []\n"])
def test_yaml_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(InputError):
        yolo.from_yaml(path, None)


def coco_file(root: Path, **changes: object) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "red"}, {"id": 9, "name": "blue"}],
        "annotations": [
            {"image_id": 7, "category_id": 9, "bbox": [10, 20, 30, 40], "iscrowd": 1},
            {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]},
        ],
    } | changes
    (root / "a.png").write_bytes(picture_with(SCENE))
    path = root / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_files(tmp_path: Path) -> None:
    data = read_data(coco_file(tmp_path), "object-detection")
    truth = data.items[0].truth
    assert data.names == ("red", "blue") and data.items[0].name == "a.png"
    np.testing.assert_array_equal(truth.boxes, [[10, 20, 40, 60], [1, 2, 4, 6]])
    assert truth.classes.tolist() == [1, 0] and truth.crowd.tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": []}, "no pictures"),
        ({"annotations": [{"image_id": 8, "category_id": 9, "bbox": [1, 1, 1, 1]}]}, "no picture 8"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 1, 1, 1]}]}, "no category 1"),
        ({"annotations": [{"image_id": 7, "category_id": 9, "bbox": [1, 1, 0, 1]}]}, "a box of size 0"),
        ({"annotations": [{"image_id": 7, "category_id": 9}]}, "expected bbox"),
        ({"images": [{"id": 7, "file_name": "../../etc/passwd"}]}, "leads out"),
        ({"images": [{"id": 7, "file_name": "gone.png"}]}, "not found beside"),
        ({"categories": "red"}, "expected COCO's"),
    ],
)
def test_coco_files_that_make_no_sense(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        coco.from_json(coco_file(tmp_path, **changes))


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("cat", "dog", "empty"):
        (tmp_path / name).mkdir()
    for name in ("cat/1.png", "dog/2.PNG", "dog/deep.png", "loose.png", "cat/.hidden.png", "cat/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    data = read_data(tmp_path, "image-classification")
    assert [(item.name, item.truth) for item in data.items] == [
        ("cat/1.png", "cat"),
        ("dog/2.PNG", "dog"),
        ("dog/deep.png", "dog"),
    ]
    assert len(data.notes) == 2 and "empty" in data.notes[0] and "1 pictures" in data.notes[1]


def test_pictures_named_by_wordnet_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "n01440764_electric_ray.JPEG").write_bytes(b"")
    data = read_data(tmp_path, "image-classification")
    assert data.items[0].truth == "electric_ray"
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 pictures have no class: holiday\.jpg"):
        read_data(tmp_path, "image-classification")


def test_tables_of_files_and_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufefffile,label\nx.png,cat\n"with, comma.png",dog\nx.png,cat\n')
    (tmp_path / "a.jsonl").write_text('{"path": "x.png", "label": 3}\n\n{"path": "y.png", "label": "dog"}\n')
    found = [
        [(item.name, item.truth) for item in read_data(tmp_path / name, "image-classification").items]
        for name in ("a.csv", "a.jsonl")
    ]
    assert found == [[("x.png", "cat"), ("with, comma.png", "dog")], [("x.png", 3), ("y.png", "dog")]]


@pytest.mark.parametrize(
    ("text", "says", "at"),
    [
        ("file,label\nx.png,cat\nx.png,dog\n", "'cat' above and 'dog' here", "t.csv:3"),
        ("file,label\nx.png\n", "expected 2 fields, got 1", "t.csv:2"),
        ("file,label\nx.png,\n", "without a label", "t.csv:2"),
        ("picture,kind\nx.png,cat\n", "no column is called", None),
        ("file,label\n", "no rows", None),
        ("", "a header", "t.csv:1"),
        ("file,file\nx,y\n", "each once", "t.csv:1"),
    ],
)
def test_tables_that_make_no_sense(tmp_path: Path, text: str, says: str, at: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        pictures.from_table(path)
    assert at is None or caught.value.at == at


FEATURES = (TensorSpec("x", "float32", (2,)),)
NAMED = (TensorSpec("age", "float32", (1,)), TensorSpec("job", "string", (1,)))


def test_rows_as_tensors(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,price,b\n1,100.5,2\n,7,true\n")
    data = tables.from_table(tmp_path / "t.csv", FEATURES, "price")
    assert [item.truth for item in data.items] == [100.5, 7]
    np.testing.assert_array_equal(data.items[0].source["x"], np.array([1, 2], np.float32))  # type: ignore[index]
    assert np.isnan(data.items[1].source["x"][0]) and data.items[1].source["x"][1] == 1  # type: ignore[index]
    (tmp_path / "n.csv").write_text("job,age,target\nclerk,31,>50K\n")
    item = tables.from_table(tmp_path / "n.csv", NAMED, None).items[0]
    assert item.truth == ">50K" and item.source["job"].tolist() == ["clerk"]  # type: ignore[index]


def test_arrays_as_tensors(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(6).reshape(3, 2), y=np.array([[0], [1], [0]]))
    data = tables.from_npz(tmp_path / "t.npz", FEATURES, None)
    assert [item.truth for item in data.items] == [0, 1, 0]
    assert data.items[2].source["x"].dtype == np.float32  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "target", "says"),
    [
        ("a,b,c\n1,2,3\n", None, "which is the target"),
        ("a,b,y\n1,2,nan\n", None, "the target is nan"),
        ("a,b,y\n1,2,\n", None, "no value for the target"),
        ("a,b,y\n1,two,3\n", None, "expected numbers for 'x', got 'two'"),
        ("a,y\n1,3\n", None, "the row has 1 values"),
        ("a,b,y\n1,2,3\n", "z", "no column 'z'"),
        ("a,b,y\n", None, "no rows"),
    ],
)
def test_rows_that_make_no_sense(tmp_path: Path, text: str, target: str | None, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ModelportError, match=says):
        tables.from_table(path, FEATURES, target)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y": np.zeros(2)}, "no array x"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2)}, "as many rows"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "as many rows"),
        ({"x": np.zeros((1, 2)), "y": np.array([np.nan])}, "the target is nan"),
        ({"x": np.zeros((1, 2)), "y": np.zeros((1, 2))}, "one value a row"),
        ({"x": np.zeros((1, 2)), "a": np.zeros(1), "b": np.zeros(1)}, "which is the target"),
    ],
)
def test_arrays_that_make_no_sense(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "t.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ModelportError, match=says):
        tables.from_npz(tmp_path / "t.npz", FEATURES, None)


def test_data_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_data(tmp_path / "gone", "object-detection")
    with pytest.raises(InputError, match="no pictures below"):
        read_data(tmp_path, "image-classification")
    with pytest.raises(InputError, match="no data set is told"):
        read_data(tmp_path, "object-detection")
    (tmp_path / "a.xlsx").write_bytes(b"")
    for task, inputs in (("object-detection", ()), ("image-classification", ()), ("tensors", FEATURES)):
        with pytest.raises(UsageError, match=r"a\.xlsx"):
            read_data(tmp_path / "a.xlsx", task, inputs=inputs)


def test_names_are_found_whatever_their_spelling() -> None:
    classes = Classes(["tench, Tinca tinca", "Siamese cat", "crane", "crane", "7"])
    assert classes.find("TENCH") == classes.find("tinca_tinca") == (0,)
    assert classes.find("n01440764_tench") == classes.find("Tinca tinca, fish") == (0,)
    assert classes.find("siamese-cat") == (1,)
    assert classes.find("crane") == (2, 3)
    assert classes.find("7") == (4,) and classes.find(1) == classes.find("1") == (1,)
    assert classes.find("9") is classes.find(5) is classes.find("dog") is None


def test_all_names_that_are_missing_are_named() -> None:
    classes = Classes(["red", "green"], {"rot": "red", "lila": ""})
    assert classes.find_all(["rot", "lila", "green"]) == {"rot": (0,), "lila": (), "green": (1,)}
    with pytest.raises(
        InputError, match="2 of the data's 3 classes: gren, blue; it has 'red', 'green'"
    ) as caught:
        classes.find_all(["gren", "red", "blue"])
    assert "did you mean 'green'" in str(caught.value) and "--map" in str(caught.value)
    assert Classes([], {"cat": "0"}).find("Cat") == (0,)
    with pytest.raises(UsageError, match="no class 'violet'"):
        Classes(["red"], {"lila": "violet"})
