"""The detection example: a pond drawn as it is labelled, bad labels named, a bundle left by training."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "detection"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pond() -> ModuleType:
    return loaded("draw_pond")


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    return loaded("check_dataset")


def contents(folder: Path) -> dict[str, bytes]:
    inside = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".yaml")
    return {str(path.relative_to(folder)): path.read_bytes() for path in inside}


def test_the_same_seed_draws_the_same_pond(pond: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pond.write(tmp_path / name, train=3, val=1, side=64, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")
    assert len(contents(tmp_path / "a")) == 8


def test_a_goose_alone_fills_its_box(pond: ModuleType) -> None:
    side = 300
    layer = Image.new("RGBA", (side, side))
    from PIL import ImageDraw

    bird = pond.Bird(kind=0, x=0.5, y=0.6, length=0.4, facing=1, dip=0.0)
    pond._goose(ImageDraw.Draw(layer), bird, np.random.default_rng(0), side)
    shape = layer.getchannel("A")
    x, y, width, height = pond._box(shape, [], side)
    drawn = np.argwhere(np.asarray(shape))
    (top, left), (bottom, right) = drawn.min(axis=0), drawn.max(axis=0) + 1
    want = np.array([left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)]) / 2 / side
    assert np.allclose([x, y, width, height], want)
    assert pond._box(shape, [shape], side) is None  # wholly hidden: no label


def test_the_drawn_pond_has_no_bad_labels(pond: ModuleType, checker: ModuleType, tmp_path: Path) -> None:
    data = pond.write(tmp_path / "pond", train=24, val=8, side=96, seed=3)
    report = checker.check(data)
    assert report.ok, list(checker.lines(report))
    assert report.pictures == {"train": 24, "val": 8}
    assert min(report.boxes.values()) > 10
    kinds = {finding.kind for finding in report.findings}
    assert kinds <= {"empty labels", "tiny box"}


Change = Callable[[Path], object]


def write_set(root: Path) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(3):
            pixels = random.integers(0, 255, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{index}.png")
            (root / "labels" / split / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.2 0.2\n")
    data = root / "data.yaml"
    data.write_text("train: images/train\nval: images/val\nnames: [goose, duck]\n")
    return data


def labels(text: str) -> Change:
    return lambda root: (root / "labels/train/0.txt").write_text(text)


@pytest.mark.parametrize(
    ("change", "level", "kind", "words"),
    [
        (labels("0 0.5 0.5 0.2\n"), "error", "unreadable row", "4 values"),
        (labels("goose 0.5 0.5 0.2 0.2\n"), "error", "unreadable row", "not five numbers"),
        (labels("0 nan 0.5 0.2 0.2\n"), "error", "unreadable row", "finite"),
        (labels("0 0.1 0.1 0.2 0.1 0.2 0.2\n"), "error", "unreadable row", "outline"),
        (labels("2 0.5 0.5 0.2 0.2\n"), "error", "unknown class", "class 2; data.yaml names 0 to 1"),
        (labels("-1 0.5 0.5 0.2 0.2\n"), "error", "unknown class", "class -1"),
        (labels("0.5 0.5 0.5 0.2 0.2\n"), "error", "unknown class", "class 0.5"),
        (labels("0 30 20 12 8\n"), "error", "outside the picture", "pixels?"),
        (labels("0 1.2 0.5 0.2 0.2\n"), "error", "outside the picture", "not in 0 to 1"),
        (labels("0 -0.1 0.5 0.2 0.2\n"), "error", "outside the picture", "not in 0 to 1"),
        (labels("0 0.95 0.5 0.2 0.2\n"), "warning", "over the edge", "edge"),
        (labels("0 0.5 0.5 0 0.2\n"), "error", "empty box", "0 x 0.2"),
        (labels("0 0.5 0.5 0.01 0.2\n"), "warning", "tiny box", "pixels"),
        (labels("0 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.2 0.2\n"), "warning", "box twice", "line 1"),
        (labels("\n"), "warning", "empty labels", "nothing"),
        (lambda root: (root / "labels/train/0.txt").unlink(), "warning", "no labels", "0.png"),
        (
            lambda root: (root / "labels/train/0.txt").write_bytes(b"\xff\xfe"),
            "error",
            "unreadable labels",
            "utf-8",
        ),
        (
            lambda root: (root / "labels/train/9.txt").touch(),
            "error",
            "labels without a picture",
            "no picture",
        ),
        (
            lambda root: (root / "images/train/0.png").write_bytes(b"no"),
            "error",
            "unreadable picture",
            "decoded",
        ),
        (
            lambda root: (root / "images/val/0.png").write_bytes((root / "images/train/2.png").read_bytes()),
            "error",
            "picture in two splits",
            "train and val",
        ),
        (
            lambda root: (root / "images/train/0.png").write_bytes(
                (root / "images/train/2.png").read_bytes()
            ),
            "warning",
            "picture twice",
            "the same picture",
        ),
        (
            lambda root: (root / "data.yaml").write_text(
                "train: images/train\nval: images/train\nnames: [a, b]"
            ),
            "error",
            "picture in two splits",
            "share 3 of 3",
        ),
        (
            lambda root: [path.unlink() for path in (root / "images/val").iterdir()],
            "error",
            "no pictures",
            "val has no pictures",
        ),
        (
            lambda root: (root / "data.yaml").write_text(
                "train: images/train\nval: images/val\nnames: [a, b, c]"
            ),
            "warning",
            "unused class",
            "class 2 (c)",
        ),
    ],
)
def test_each_kind_of_bad_label_is_named_with_its_place(
    checker: ModuleType, tmp_path: Path, change: Change, level: str, kind: str, words: str
) -> None:
    data = write_set(tmp_path)
    sound = checker.check(data)
    assert sound.ok and not sound.findings
    change(tmp_path)
    report = checker.check(data)
    found = [finding for finding in report.findings if finding.kind == kind]
    assert found and {finding.level for finding in found} == {level}
    assert report.ok == all(finding.level != "error" for finding in report.findings)
    assert words in found[0].message and str(tmp_path) in found[0].place
    assert any(line.startswith(f"{level}: {kind}") for line in checker.lines(report))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read"),
        ("1", "no names"),
        ("train: images/train\nval: images/val\n", "`names`"),
        ("train: images/train\nval: images/val\nnames: {1: a, 2: b}\n", "numbered"),
        ("train: images/train\nnames: [a]\n", "no `val`"),
        ("train: images/train\nval: images/other\nnames: [a]\n", "not there"),
    ],
)
def test_a_data_yaml_that_cannot_be_used_is_refused(
    checker: ModuleType, tmp_path: Path, text: str, words: str
) -> None:
    data = write_set(tmp_path)
    data.write_text(text)
    with pytest.raises(checker.DataError) as refused:
        checker.check(data)
    assert words in str(refused.value)


def test_a_split_may_be_a_list_of_pictures(checker: ModuleType, tmp_path: Path) -> None:
    data = write_set(tmp_path)
    (tmp_path / "train.txt").write_text("images/train/0.png\nimages/train/1.png\n")
    data.write_text("train: train.txt\nval: [images/val]\nnames: {0: goose, 1: duck}\n")
    report = checker.check(data)
    assert report.pictures == {"train": 2, "val": 3}


def test_the_checker_is_a_command(tmp_path: Path) -> None:
    data = write_set(tmp_path)
    command = [sys.executable, str(FOLDER / "check_dataset.py"), str(data), "--json"]
    fine = subprocess.run(command, capture_output=True, text=True, check=False)
    assert fine.returncode == 0 and json.loads(fine.stdout)["pictures"] == {"train": 3, "val": 3}
    labels("9 0.5 0.5 0.1 0.1")(tmp_path)
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and json.loads(bad.stdout)["findings"][0]["kind"] == "unknown class"
    data.unlink()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3


def trained(tmp_path: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(FOLDER / "train.py"), "--data", str(data)]
    command += ["--out", str(tmp_path / "repo"), "--name", "geese", "--runs", str(tmp_path / "runs")]
    command += ["--imgsz", "64", "--batch", "8", "--epochs", "1", *more]
    # Ultralytics writes no curves where it believes that it is tested itself.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False, env=environment
    )


def test_bad_labels_stop_a_training_before_it_begins(tmp_path: Path) -> None:
    data = write_set(tmp_path)
    labels("7 0.5 0.5 0.2 0.2")(tmp_path)
    done = trained(tmp_path, data)
    assert done.returncode == 1
    assert "unknown class" in done.stdout and "--bad-labels" in done.stderr
    assert not (tmp_path / "repo").exists() and not (tmp_path / "runs").exists()


@pytest.mark.frameworks
def test_one_command_trains_validates_packs_and_verifies(
    pond: ModuleType, ultralytics_python: Path, tmp_path: Path
) -> None:
    probe = subprocess.run([ultralytics_python, "-c", "import torchvision"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("torchvision does not fit torch in the environment of Ultralytics")
    data = pond.write(tmp_path / "pond", train=8, val=4, side=64, seed=1)
    done = trained(tmp_path, data, "--set", "plots=false", "--set", "optimizer=AdamW")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "validation: mAP50" in done.stdout and "answers as in" in done.stdout
    from modelport.bundle.store import Bundle

    manifest = Bundle.open(tmp_path / "repo" / "geese" / "1").manifest
    assert manifest.task == "object-detection"
    assert manifest.golden is not None and not manifest.golden.generated and len(manifest.golden.cases) == 4
    assert list((tmp_path / "runs").rglob("events.out.tfevents.*"))  # TensorBoard's curves
    again = trained(tmp_path, data)
    assert again.returncode == 2 and "never changed" in again.stderr


def test_weights_and_biases_is_used_where_it_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    training = loaded("train_ultralytics")
    assert not training._wandb() and not capfd.readouterr().err
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    assert not training._wandb() and "-m pip install wandb" in capfd.readouterr().err
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    assert training._wandb()
