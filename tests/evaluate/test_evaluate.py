"""Whole evaluations: bundles packed here, data drawn here, in this process, at a server, from the shell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import modelport
from modelport.cli.main import run
from modelport.errors import InputError, NotFound, Unavailable, UsageError
from modelport.evaluate.report import report
from modelport.evaluate.values import read, write_file

from ..boxes import LABELS, pack_boxes
from ..colours import pack_colours, picture, served
from .networks import SCENES, draw_boxes, draw_colours, pack_rows


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the detector `boxes` and the classifier `colours`."""
    folder = tmp_path_factory.mktemp("models")
    pack_boxes(folder)
    return pack_colours(folder)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with served(repo) as (address, _):
        yield address


def test_a_detector_that_is_right_has_a_map_of_one(repo: Path, boxes: Path) -> None:
    found = modelport.evaluate(repo / "boxes", boxes, replicates=50)
    assert found.task == "detection" and found.items == len(found.outcomes) == 4 and not found.failed
    # Boxes are right to a pixel of the network's picture: over IoU .85 here, not over .95.
    assert found["map50"] == pytest.approx(1) and (found["map"] or 0) > 0.8
    assert found["recall"] == 1 and found["ultralytics_map50"] == pytest.approx(0.995)
    assert found.options == {"score_threshold": 0.001, "iou_threshold": 0.7, "multi_label": True}
    assert [each.label for each in found.classes] == ["red", "green", "blue"]
    assert [each.support for each in found.classes] == [1, 1, 2]
    tall = next(each for each in found.outcomes if each.item == "tall.png")
    assert (tall.width, tall.height) == (100, 200)  # type: ignore[union-attr]


def test_coco_and_yolo_labels_of_the_same_boxes_give_the_same_figures(
    repo: Path, boxes: Path, tmp_path: Path
) -> None:
    places = {name: place for place, name in enumerate(SCENES)}
    content = {
        "images": [{"id": place, "file_name": f"{name}.png"} for name, place in places.items()],
        "categories": [{"id": 10 + place, "name": name} for place, name in enumerate(LABELS)],
        "annotations": [
            {
                "image_id": places[name],
                "category_id": 10 + LABELS.index(label),
                "bbox": [left, top, right - left, bottom - top],
            }
            for name, (_, drawn) in SCENES.items()
            for label, left, top, right, bottom in drawn
        ],
    }
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(content))
    coco = modelport.evaluate(repo / "boxes", path, images=boxes / "images")
    yolo = modelport.evaluate(repo / "boxes", boxes)
    for name in ("map", "map50", "map75", "mar100", "f1", "ultralytics_map"):
        assert coco[name] == pytest.approx(yolo[name]), name


def test_a_classifier_beside_its_data(repo: Path, colours: Path) -> None:
    found = modelport.evaluate(repo / "colours", colours)
    assert found.task == "classification" and found.main == "accuracy"
    assert found["accuracy"] == pytest.approx(6 / 7)
    assert "top5" not in found.metrics
    wrong = [each.item for each in found.outcomes if not each.correct]  # type: ignore[union-attr]
    assert wrong == ["blue/green.png"]
    metric = found.metrics["accuracy"]
    assert metric.low is not None and metric.high is not None and metric.low < 6 / 7 < metric.high == 1


@pytest.mark.parametrize("model", ["boxes", "colours"])
def test_a_server_gives_the_same_outcomes(
    repo: Path, url: str, model: str, boxes: Path, colours: Path
) -> None:
    data = boxes if model == "boxes" else colours
    here = modelport.evaluate(repo / model, data, replicates=20)
    for asked in (repo / model, model, f"{model}/1"):
        there = modelport.evaluate(asked, data, url=url, replicates=20)
        assert there.to_dict(outcomes=True)["outcomes"] == here.to_dict(outcomes=True)["outcomes"]
        assert there.metrics == here.metrics and there.digest == here.digest and there.via == url


def test_a_server_with_another_bundle_of_the_name_is_noted(url: str, colours: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "more.png").write_bytes(picture("blue", (5, 5)))
    other = pack_colours(tmp_path) / "colours"
    found = modelport.evaluate(other, colours, url=url, replicates=0)
    assert "is another bundle" in found.notes[0]


def test_a_server_that_is_not_there_or_has_no_such_model(
    repo: Path, url: str, colours: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="no model 'gone'"):
        modelport.evaluate("gone", colours, url=url)
    pack_colours(tmp_path, name="elsewhere")
    with pytest.raises(NotFound, match="elsewhere"):
        modelport.evaluate(tmp_path / "repo" / "elsewhere", colours, url=url)
    for bundle in ("colours", repo / "colours"):
        with pytest.raises(Unavailable):
            modelport.evaluate(bundle, colours, url="http://127.0.0.1:9")


def test_files_that_cannot_be_read_are_counted_and_named(repo: Path, tmp_path: Path) -> None:
    root = draw_colours(tmp_path / "data")
    (root / "Red" / "broken.png").write_bytes(b"\x89PNG nothing")
    (root / "Red" / "text.jpg").write_text("no picture")
    (root / "list.csv").write_text("file,label\ngone.png,red\nRed/16.png,red\n")
    found = modelport.evaluate(repo / "colours", root, replicates=0)
    assert found.items == 9 and len(found.outcomes) == 7
    assert [each.item for each in found.failed] == ["Red/broken.png", "Red/text.jpg"]
    found = modelport.evaluate(repo / "colours", root / "list.csv", replicates=0)
    assert found["accuracy"] == 1 and "cannot read 'gone.png'" in found.failed[0].error
    (root / "list.csv").write_text("file,label\ngone.png,red\n")
    with pytest.raises(InputError, match="none of 1 items could be answered"):
        modelport.evaluate(repo / "colours", root / "list.csv")


def test_classes_that_the_model_does_not_have(repo: Path, colours: Path, tmp_path: Path) -> None:
    root = draw_colours(tmp_path / "data")
    (root / "blue").rename(root / "bleu")
    with pytest.raises(InputError, match="1 of the data's 3 classes: bleu; it has 'red', 'green', 'blue'"):
        modelport.evaluate(repo / "colours", root)
    assert modelport.evaluate(repo / "colours", root, renamed={"bleu": "blue"}).items == 7
    found = modelport.evaluate(repo / "colours", root, renamed={"bleu": ""})
    assert found.items == 4 and found["accuracy"] == 1
    with pytest.raises(InputError, match="every class of the data is left out"):
        modelport.evaluate(repo / "colours", root, renamed=dict.fromkeys(("bleu", "Red", "green"), ""))


def test_a_limit_picks_evenly_and_settings_are_checked(repo: Path, colours: Path) -> None:
    found = modelport.evaluate(repo / "colours", colours, limit=3)
    assert [each.item.split("/")[0] for each in found.outcomes] == ["Red", "blue", "blue"]
    assert "3 of 7 items, evenly picked" in found.notes
    for wrong in ({"limit": 0}, {"replicates": -1}, {"speed": 3}):
        with pytest.raises(UsageError):
            modelport.evaluate(repo / "colours", colours, **wrong)
    with pytest.raises(InputError, match="no option 'score_threshold'"):
        modelport.evaluate(repo / "colours", colours, options={"score_threshold": 0.1})


ROWS = np.array([[3, 1], [0, 2], [5, 5.5], [2, 1], [1, 3]], np.float32)
"""s = a - b is 2, -2, -0.5, 1, -2."""


@pytest.mark.parametrize(
    ("kind", "target", "metric", "expected"),
    [
        ("number", [2, -2, 0.5, 1, -2], "mae", 0.2),
        ("share", [1, 0, 1, 1, 0], "accuracy", 0.8),
        ("share", [1, 0, 1, 1, 0], "auc", 1.0),
        ("scores", [1, 0, 1, 1, 0], "accuracy", 0.8),
        ("words", [1, 0, 1, 1, 0], "accuracy", 0.8),
    ],
)
def test_rows_with_targets(
    tmp_path: Path, kind: str, target: list[float], metric: str, expected: float
) -> None:
    bundle = pack_rows(tmp_path, kind, labels=["no", "yes"] if kind == "words" else None)
    np.savez(tmp_path / "rows.npz", x=ROWS, y=np.array(target))
    lines = [f"{a},{b},{t}" for (a, b), t in zip(ROWS.tolist(), target, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,target", *lines]))
    for file in ("rows.npz", "rows.csv"):
        found = modelport.evaluate(bundle, tmp_path / file, replicates=10)
        assert found[metric] == pytest.approx(expected), file
        assert found.task == ("regression" if kind == "number" else "classification")


def test_rows_with_words_as_targets(tmp_path: Path) -> None:
    bundle = pack_rows(tmp_path, "words")
    (tmp_path / "rows.csv").write_text("a,b,target\n3,1,yes\n0,2,no\n5,5.5,yes\n2,1,yes\n")
    found = modelport.evaluate(bundle, tmp_path / "rows.csv")
    assert found.labels == ("no", "yes") and found["accuracy"] == 0.75
    number = pack_rows(tmp_path, "number")
    with pytest.raises(InputError, match="expected numbers as targets of a regression, got 'yes'"):
        modelport.evaluate(number, tmp_path / "rows.csv")
    np.savez(tmp_path / "many.npz", x=ROWS, y=np.arange(5))
    with pytest.raises(UsageError, match="not a probability"):
        modelport.evaluate(number, tmp_path / "many.npz", kind="classification")
    forced = modelport.evaluate(
        pack_rows(tmp_path, "share", labels=["no", "yes"]), tmp_path / "rows.csv", kind="classification"
    )
    assert forced["accuracy"] == 0.75


def test_classes_that_a_limit_leaves_out_keep_their_places(tmp_path: Path) -> None:
    """Of a model without labels: its classes are all words of the data."""
    (tmp_path / "rows.csv").write_text("a,b,target\n3,1,yes\n0,2,no\n5,4,yes\n1,2,no\n")
    found = modelport.evaluate(pack_rows(tmp_path, "scores"), tmp_path / "rows.csv", limit=2)
    assert [each.item for each in found.outcomes] == ["row 2", "row 4"]  # of one class alone
    assert found.labels == ("no", "yes") and found["accuracy"] == 1


def test_rows_that_make_the_model_answer_nan_are_named(tmp_path: Path) -> None:
    bundle = pack_rows(tmp_path, "number")
    (tmp_path / "rows.csv").write_text("a,b,target\n3,1,2\n,2,1\n")
    found = modelport.evaluate(bundle, tmp_path / "rows.csv")
    assert [(each.item, each.error) for each in found.failed] == [("row 3", "the answer is nan")]
    with pytest.raises(UsageError, match="no output 'z'"):
        modelport.evaluate(bundle, tmp_path / "rows.csv", output="z")


def test_the_report_is_one_page_with_the_mistakes_on_it(repo: Path, boxes: Path, tmp_path: Path) -> None:
    root = draw_colours(tmp_path / "<data>")
    for model, data in (("colours", root), ("boxes", boxes)):
        page = tmp_path / f"{model}.html"
        assert run(["evaluate", str(repo / model), "--data", str(data), "--report", str(page)]) == 0
        text = page.read_text()
        assert "<!doctype html>" in text and "Worst mistakes" in text and "image/svg+xml" in text
        sources = re.findall(r'(?:src|href)="([^"]{0,5})', text)
        assert sources and set(sources) == {"data:"}
        assert "<script" not in text and "<data>" not in text
    assert text.count("image/jpeg") == 0 and "There are none" in text
    colours_page = (tmp_path / "colours.html").read_text()
    found = modelport.evaluate(repo / "boxes", boxes, replicates=0)
    assert report(found) == report(found)
    assert colours_page.count("data:image/jpeg") == 1 and "blue/green.png" in colours_page


def test_the_report_of_missed_and_wrong_boxes(repo: Path, tmp_path: Path) -> None:
    root = draw_boxes(tmp_path / "data")
    (root / "labels" / "none.txt").write_text("0 0.5 0.5 0.2 0.2")
    (root / "labels" / "small.txt").unlink()
    page = tmp_path / "page.html"
    assert run(["evaluate", str(repo / "boxes"), "--data", str(root), "--report", str(page)]) == 0
    text = page.read_text()
    assert text.count("data:image/jpeg") == 4
    assert "1 objects, 1 missed" in text and "0 objects, 0 missed" in text and "0 found, 1 wrong" in text


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelport", "evaluate", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_keeps_compares_and_judges(repo: Path, colours: Path, tmp_path: Path) -> None:
    kept = tmp_path / "first.json"
    done = command(
        repo / "colours", "--data", colours, "--save", kept, "--json", "--at-least", "accuracy=0.8"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == "modelport.evaluate/1" and said["ok"] and "outcomes" not in said
    assert said["metrics"]["accuracy"]["value"] == pytest.approx(6 / 7)
    assert len(read(kept).outcomes) == 7
    no = command(repo / "colours", "--data", colours, "--at-least", "accuracy=.9", "--against", kept)
    assert no.returncode == 1 and "no: accuracy is 0.8571, below 0.9" in no.stderr
    assert "McNemar's test: p = 1" in no.stdout and "7 items that both answered" in no.stdout
    page = tmp_path / "page.html"
    bundle = repo / "colours"
    other = command(bundle, "--data", colours, "--against", bundle, "--report", page, "--json")
    assert json.loads(other.stdout)["comparison"]["changes"]["accuracy"]["difference"] == 0
    assert "on the 7 items that both answered" in page.read_text()


def test_the_commands_exit_codes(
    repo: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = draw_colours(tmp_path / "data")
    (root / "Red" / "broken.png").write_bytes(b"")
    bundle = str(repo / "colours")
    quick = ["--bootstrap", "0"]
    for expected, arguments in (
        (3, ["--data", str(root), *quick]),
        (0, ["--data", str(root), "--allow-failed", "1", *quick]),
        (1, ["--data", str(root), "--allow-failed", "1", "--at-most", "accuracy=0.1", *quick]),
        (3, ["--data", str(tmp_path / "gone"), *quick]),
        (2, ["--data", str(colours), "--at-least", "acuracy=0.5", *quick]),
        (2, ["--data", str(colours), "--at-least", "accuracy", *quick]),
        (2, ["--data", str(colours), "--at-least", "accuracy=nan", *quick]),
        (2, ["--data", str(colours), "--option", "a=b", *quick]),
        (2, ["--data", str(colours), "--map", "red=violet", *quick]),
        (2, ["--data", str(colours), "--runtime", "steam", *quick]),
        (4, ["--data", str(colours), "--runtime", "python", *quick]),
    ):
        assert run(["evaluate", bundle, *arguments]) == expected, arguments
    said = capsys.readouterr().err
    assert "did you mean 'accuracy'" in said
    assert "exit code 3: 1 of 8 items have no answer; --allow-failed 1 lets them pass" in said


def test_label_files_without_a_picture_do_not_fail_a_check(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = draw_boxes(tmp_path)
    (data / "labels" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1")
    for described in data.glob("*.y*ml"):  # where it names a part, there may be label files of others
        described.write_text(described.read_text().replace("val:", "elsewhere:"))
    asked = ["evaluate", str(repo / "boxes"), "--data", str(data), "--bootstrap", "0"]
    assert run([*asked, "--limit", "2", "--at-least", "map50=0.9"]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 items answered" in said and "labels/gone.txt" in said
    assert run([*asked, "--conf", "0.3", "--option", "score_threshold=0.2"]) == 2


def test_a_classifier_is_not_judged_on_boxes(repo: Path, boxes: Path) -> None:
    with pytest.raises(InputError, match=r"this is a folder of boxes .* and colours is a classifier"):
        modelport.evaluate(repo / "colours", boxes)


def test_importing_it_is_light() -> None:
    code = "import modelport.evaluate.run, modelport.cli.evaluate, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "faster_coco_eval", "yaml", "onnxruntime", "sklearn"} & set(done.stdout.split())


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(
    repo: Path,
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = tmp_path / "gone" / "it.json"
    for option in ("--save", "--report"):
        assert run(["evaluate", f"{repo}/colours", "--data", str(colours), option, str(gone)]) == 2
        assert f"cannot write {option} {gone}: no such folder: {gone.parent}" in capsys.readouterr().err

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write '.*it\.json': No space left on device"):
        write_file(tmp_path / "it.json", b"")
    assert list(tmp_path.iterdir()) == []
