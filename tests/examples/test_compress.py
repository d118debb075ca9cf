"""The compressing recipes: what is left computes what it should, is as small as asked, packs and answers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modelport

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "compress"


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    """The examples put their folders on sys.path; the modules that they find there go again."""
    path, before = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    ours = str(FOLDER.parent)
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(ours):
            del sys.modules[name]


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("/", "_") + "_example", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_pictures(root: Path, each: dict[str, int]) -> Path:
    """Noise with a square that is red, green or blue; 32x32."""
    random = np.random.default_rng(0)
    for split, count in each.items():
        for channel, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[8:24, 8:24, channel] += 100
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def test_pictures_are_read_from_folders_and_cifar_files(tmp_path: Path) -> None:
    pictures, photo_digits = loaded("pictures"), loaded("photo_digits")
    found = pictures.read(write_pictures(tmp_path / "own", {"train": 3, "test": 2}), 16)
    assert found.names == ("blue", "green", "red") and found.shape == (16, 16, 3)
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (found.test_images[found.test_labels == 2].mean((0, 1, 2)).argmax()) == 0
    pictures.write_folders(found.test_images, found.test_labels, found.names, tmp_path / "png")
    with Image.open(tmp_path / "png" / "blue" / "00000.png") as image:
        assert np.array_equal(np.asarray(image), found.test_images[0])

    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (4, 32, 32, 3), np.uint8), np.arange(4, dtype=np.uint8)
    photo_digits.write(tmp_path / "data_batch_1.bin", images, labels)
    photo_digits.write(tmp_path / "test_batch.bin", images[:2], labels[:2])
    binary = pictures.read(tmp_path)
    assert np.array_equal(binary.train_images, images) and binary.test_labels.tolist() == [0, 1]
    with (tmp_path / "test_batch.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(pictures.DataError, match="rows of 3073 bytes"):
        pictures.read(tmp_path)
    with pytest.raises(pictures.DataError, match="found none of them"):
        pictures.read(tmp_path / "png")


def test_digits_lie_on_patches_of_the_photos_that_are_given() -> None:
    photo_digits = loaded("photo_digits")
    digit = np.zeros((1, 28, 28), np.uint8)
    digit[0, 10, 10] = 200
    made = photo_digits.composed(digit, [np.full((40, 50, 3), 30, np.uint8)], np.random.default_rng(0))
    assert made.shape == (1, 32, 32, 3) and made[0, 12, 12].tolist() == [170] * 3
    assert (np.delete(made.reshape(-1, 3), 12 * 32 + 12, 0) == 30).all()


@pytest.mark.frameworks
def test_pruning_dead_channels_changes_no_output_in_pytorch() -> None:
    """Half of the channels of a residual network are dead; it is they that go, and the answers stay."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_pruning")
    channels, networks = loaded("pytorch/channels"), loaded("pytorch/networks")
    torch.manual_seed(0)
    model = networks.resnet8().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.weight.data.uniform_(0.5, 1.5)
            module.weight.data[::2] = module.bias.data[::2] = 0
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data[::2] = 0
    inputs = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        before = model(inputs)
    whole = channels.multiply_adds(model, inputs[:1])
    (pruned,) = channels.fewer_channels(model, inputs[:1], None, 3.5)
    assert whole / channels.multiply_adds(pruned, inputs[:1]) >= 3.5
    full = channels.widths(networks.resnet8())
    assert all(0.5 <= left / was <= 1 for left, was in zip(channels.widths(pruned), full, strict=True))
    with torch.no_grad():
        assert torch.allclose(pruned(inputs), before, atol=1e-5)


@pytest.mark.frameworks
def test_a_student_at_half_the_resolution_is_four_times_smaller_and_asks_its_teacher() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_pruning")
    channels, networks, training = (
        loaded(f"pytorch/{name}") for name in ("channels", "networks", "training")
    )
    torch.manual_seed(0)
    images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    teacher = networks.resnet8().eval()
    student = networks.resnet8(networks.HALF, stride=2).eval()
    whole, left = (channels.multiply_adds(each, images.float()) for each in (teacher, student))
    assert 4 <= whole / left < 4.3

    few = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        teacher[-1].weight *= 20  # an untrained one hardly tells pictures apart
        wanted = teacher((few.float() / 255 - 0.5) / 0.25)
    # Labels that say something else: what the student knows in the end, it has from the teacher.
    lessons = training.Lessons(few, (wanted.argmax(1) + 1) % 10, 0.5, 0.25, lambda images: images, 8)
    asked = training.asked(teacher, lessons)
    assert torch.allclose(asked(lessons.batch(torch.arange(8))), wanted, atol=1e-3)
    assert torch.allclose(asked(lessons.batch(torch.arange(3))), wanted[:3], atol=1e-3)
    training.train(student, lessons, 12, peak=0.1, teacher=teacher)
    with torch.no_grad():
        found = student(lessons.batch(torch.arange(8))).argmax(1)
    assert (found == wanted.argmax(1)).sum() >= 6


@pytest.mark.frameworks
def test_zeros_stay_and_the_loss_of_a_perfect_student_is_the_labels_alone() -> None:
    torch = pytest.importorskip("torch")
    weights, training = loaded("pytorch/weights"), loaded("pytorch/training")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in weights.fewer_weights(model, 0.9, rounds=3):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 3, 8, 8)).square().mean().backward()
            optimizer.step()
    assert weights.zeros(model) == pytest.approx(0.9, abs=1e-3)
    assert "weight" in dict(model[0].named_parameters())  # plain again

    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    known = torch.nn.functional.cross_entropy(logits, labels)
    assert training.loss_of(logits, labels, logits).item() == pytest.approx(0.1 * known.item(), rel=1e-4)
    taught = torch.randn(6, 4)
    p, q = (torch.softmax(each / training.TEMPERATURE, 1) for each in (taught, logits))
    told = (p * (p.log() - q.log())).sum(1).mean() * training.TEMPERATURE**2
    wanted = 0.9 * told + 0.1 * known
    assert training.loss_of(logits, labels, taught).item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.frameworks
def test_pruning_dead_filters_changes_no_output_in_keras() -> None:
    keras = pytest.importorskip("keras")
    channels = loaded("keras/channels")
    layers = keras.layers
    inputs = flow = keras.Input((12, 12, 3))
    for width in (8, 16):
        flow = layers.Conv2D(width, 3, padding="same", use_bias=width == 16)(flow)
        flow = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(flow)))
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(flow)))
    random = np.random.default_rng(0)
    dead: dict[str, Any] = {}
    for layer in model.layers:
        values = [random.uniform(0.5, 1.5, each.shape) for each in layer.get_weights()]
        if isinstance(layer, layers.Conv2D):
            dead[layer.name] = random.permutation(layer.filters)[: layer.filters // 2]
            for each in values:
                each[..., dead[layer.name]] = 0
        elif isinstance(layer, layers.BatchNormalization):
            values[0] -= 1
            values[0][list(dead.values())[-1]] = values[1][list(dead.values())[-1]] = 0
        layer.set_weights(values)
    pictures = random.normal(size=(5, 12, 12, 3)).astype(np.float32)
    whole = channels.multiply_adds(model)
    assert whole == 144 * 27 * 8 + 36 * 72 * 16 + 144 * 4
    (pruned,) = channels.fewer_filters(model, channels.sizes_of_weights, 2.4)
    assert whole / channels.multiply_adds(pruned) >= 2.4
    first, second = (layer.filters for layer in pruned.layers if isinstance(layer, layers.Conv2D))
    assert 4 <= first <= 8 and 8 <= second < 16  # no filter that lives is gone
    assert np.allclose(pruned(pictures), model(pictures), atol=1e-4)

    weights = loaded("keras/weights")
    for masks in weights.masks_of_fewer(model, 0.8, rounds=2):
        for kernel, mask in masks:
            kernel.assign((kernel + 1) * mask)  # what training does to weights that are left
    assert weights.zeros(model) == pytest.approx(0.8, abs=0.01)

    branches = keras.Model(inputs, layers.Add()([layers.Conv2D(3, 1)(inputs), inputs]))
    with pytest.raises(ValueError, match="chain"):
        channels.multiply_adds(branches)


def asked(framework: str, *options: Any, without: str = "") -> subprocess.CompletedProcess[str]:
    """What the recipe says; where `without` names a module, importing it fails."""
    hidden = f"import sys; sys.modules[{without!r}] = None; " if without else "import sys; "
    script = str(FOLDER / framework / "compress.py")
    program = (
        f"{hidden}import runpy; sys.path.insert(0, {str(FOLDER / framework)!r}); sys.argv[0] = {script!r}; "
    )
    program += f"runpy.run_path({script!r}, run_name='__main__')"
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.parametrize(("framework", "module"), [("pytorch", "torch"), ("keras", "tensorflow")])
def test_help_needs_no_framework_and_what_is_missing_is_named(
    framework: str, module: str, tmp_path: Path
) -> None:
    done = asked(framework, "--help", without=module)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "network(widths, classes, shape)" in said and "train/CLASS/*.jpg" in said
    done = asked(framework, "--data", tmp_path, "-o", tmp_path / "out", without=module)
    assert done.returncode == 1
    assert f"error: this recipe needs {module}, which is not installed: pip install" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("framework", "code", "said"),
    [
        (
            "pytorch",
            "nn.Conv2d(shape[2], 3, 3)",
            "pictures [batch, 3, 16, 16] that gives [batch, 3]; it fails: ",
        ),
        ("pytorch", "nn.Flatten()", "that gives [batch, 3]; for 2 pictures it gives [2, 768]"),
        ("pytorch", "1 / 0", "it fails: ZeroDivisionError"),
        (
            "keras",
            "nn.Flatten()",
            "pictures [batch, 16, 16, 3] that gives [batch, 3]; for 2 pictures it gives",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_what_was_expected(
    framework: str, code: str, said: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch_pruning" if framework == "pytorch" else "keras")
    library = "from torch import nn" if framework == "pytorch" else "from keras import layers as nn"
    own = tmp_path / "own.py"
    own.write_text(f"{library}\ndef network(widths, classes, shape):\n    return {code}\n")
    data = write_pictures(tmp_path / "data", {"train": 2, "test": 2})
    done = asked(framework, "--data", data, "--side", 16, "--network", own, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert f"error: {own}: expected of network(widths, classes, shape) a network for " in done.stderr
    assert said in done.stderr


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("framework", "suffix", "kinds"),
    [("pytorch", ".pt", ["pruned", "sparse", "student"]), ("keras", ".keras", ["pruned"])],
)
def test_a_recipe_makes_networks_that_are_small_pack_and_answer(
    framework: str, suffix: str, kinds: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch_pruning" if framework == "pytorch" else "keras")
    data = write_pictures(tmp_path / "data", {"train": 40, "test": 5})
    few = "--side 16 --threads 1 --batch 12 --rounds 1 --fewer 4.2"
    few += " --epochs 2 --student-epochs 2 --teacher-epochs 2"
    if framework == "pytorch":
        few += f" --network {FOLDER / 'pytorch' / 'own.py'}"
    script = str(FOLDER / framework / "compress.py")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            script,
            "--data",
            data,
            "-o",
            tmp_path / "out",
            *few.split(),
            "--only",
            *kinds,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| `pruned` |" in done.stdout
    rows = {row["name"]: row for row in json.loads((tmp_path / "out" / "table.json").read_text())}
    assert list(rows) == ["teacher", *kinds]
    whole = rows["teacher"]
    for name in {"pruned", "student"} & set(kinds):
        assert whole["multiply_adds"] / rows[name]["multiply_adds"] >= 4
        assert rows[name]["bytes"] < whole["bytes"] / 2
    if "sparse" in kinds:
        assert "90.0% of the weights are zero" in done.stdout
        assert rows["sparse"]["multiply_adds"] == whole["multiply_adds"]
        assert rows["sparse"]["packed_bytes"] < whole["packed_bytes"] / 3
    assert (tmp_path / "out" / f"pruned{suffix}").is_file()
    with modelport.Pipeline.open(modelport.Bundle.open(tmp_path / "out" / "repo" / "pruned" / "1")) as opened:
        answer = opened.answer(opened.decode((tmp_path / "out/test/red/00014.png").read_bytes()))
    assert sorted(answer["labels"].tolist()) == ["blue", "green", "red"]
    assert answer["scores"].sum() == pytest.approx(1, abs=1e-5)
