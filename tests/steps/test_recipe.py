"""Recipes as files, and how they are settled for a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.errors import UsageError
from modelport.steps import recipe as recipes
from modelport.steps.compile import POST_STEPS, PRE_STEPS, compile_post, compile_pre
from modelport.steps.fit import Resolved
from modelport.steps.image import Cast, CenterCrop, Layout, Normalize
from modelport.steps.ink import CenterOfMass
from modelport.steps.post import Labels, Squeeze, TopK
from modelport.steps.recipe import load_recipe, recipe_names, resolve
from modelport.steps.resize import Resize
from modelport.tensors import Signature, TensorSpec

from .graphs import session

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def net(*item: int | str, out: tuple[int | str, ...] = (1000,), dtype: str = "float32") -> Signature:
    return Signature(
        (TensorSpec("data", dtype, ("batch", *item)),), (TensorSpec("prob", "float32", ("batch", *out)),)
    )


def settled(name: str, network: Signature, **options: Any) -> Resolved:
    return resolve(load_recipe(name), net=network, **options)


def test_recipes_that_ship() -> None:
    assert recipe_names() == [
        "detr",
        "digits",
        "imagenet",
        "imagenet-caffe",
        "imagenet-tf",
        "nanodet",
        "raw",
        "rtdetr",
        "ssd",
        "yolov10",
        "yolov5",
        "yolov5-raw",
        "yolov8",
        "yolox",
    ]
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
    assert load_recipe("digits").task == "digit-classification"
    assert load_recipe("imagenet-tf").task == "image-classification"
    assert load_recipe("raw").task == "tensors"
    assert load_recipe("raw").decode.kind == "tensors"


def test_every_step_and_recipe_has_its_heading() -> None:
    steps = (DOCS / "steps.md").read_text()
    for name, kind in (PRE_STEPS | POST_STEPS).items():
        assert f"\n### `{name}`\n" in steps
        section = steps.split(f"\n### `{name}`\n")[1].split("\n### ")[0]
        for field in kind.__struct_fields__:
            assert f"`{field}`" in section, f"{name}: {field}"
    text = (DOCS / "recipes.md").read_text()
    for name in recipe_names():
        section = text.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
        for parameter, value in load_recipe(name).parameters.items():
            written = str(value) if value != "" else "empty"
            assert any(f"`{parameter}`" in line and written in line for line in section.splitlines()), (
                f"{name}: {parameter} = {written}"
            )


# -- what follows the network ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "order", "made"),
    [
        ((1, 28, 28), "chw", (1, 28, 28)),
        ((28, 28, 1), "hwc", (28, 28, 1)),
        ((28, 28), "hw", (28, 28)),
        ((784,), "flat", (784,)),
        ((1, 32, 32), "chw", (1, 32, 32)),
        (("height", "width", 1), "hwc", (28, 28, 1)),
        ((1, "height", "width"), "chw", (1, 28, 28)),
    ],
    ids=str,
)
def test_layout_and_size_follow_the_network(item: tuple[int | str, ...], order: str, made: Any) -> None:
    fitted = settled("digits", net(*item, out=(10,)))
    assert fitted.pre[-1] == Layout(order)  # type: ignore[arg-type]
    assert compile_pre(fitted.pre, "data").signature.outputs == (TensorSpec("data", "float32", made),)
    assert ("any size" in " ".join(fitted.notes)) == ("height" in item)


def test_size_follows_the_network_unless_it_is_set() -> None:
    assert settled("imagenet", net(3, 299, 299)).pre[1] == CenterCrop(299)
    fitted = settled("imagenet", net(3, "h", "w"), overrides={"size": "192", "crop_fraction": "1"})
    assert fitted.pre[:2] == (Resize(shorter=192, crop_fraction=1.0), CenterCrop(192))
    with pytest.raises(UsageError, match=r"make float32\[3, 192, 192\]") as caught:
        settled("imagenet", net(3, 224, 224), overrides={"size": 192})
    assert "--set size" in str(caught.value.hint)


def test_layout_can_be_set_where_the_shape_does_not_tell() -> None:
    network = net("c", "h", "w")
    with pytest.raises(UsageError, match="which axis is the channels") as caught:
        settled("imagenet", network)
    assert "--set layout=chw" in str(caught.value.hint)
    assert settled("imagenet", network, overrides={"layout": "chw"}).pre[-1] == Layout("chw")


def test_a_cast_is_added_for_half_precision() -> None:
    fitted = settled("imagenet", net(3, 224, 224, dtype="float16"))
    assert fitted.pre[-1] == Cast("float16")
    assert "a `cast` was added" in fitted.notes[0]


def test_softmax_is_dropped_where_the_network_has_one() -> None:
    fitted = settled("digits", net(1, 28, 28, out=(10,)), normalised_output=True)
    assert [type(step) for step in fitted.post] == [TopK, Labels]
    assert "normalised already" in fitted.notes[0]
    raw = np.eye(1, 10, 7, dtype=np.float32)
    graph = compile_post(fitted.post, net(1, 28, 28, out=(10,)).outputs, fitted.labels)
    scores, _, labels = session(graph.data).run(None, {"prob": raw})
    assert scores[0, 0] == 1
    assert labels[0, 0] == "7"


def test_softmax_and_top_k_find_the_output_that_is_named() -> None:
    outputs = (TensorSpec("a", "float32", ("batch", 8)), TensorSpec("b", "float32", ("batch", 4)))
    network = Signature(net(3, 224, 224).inputs, outputs)
    with pytest.raises(UsageError, match="must say `of` which output: a, b"):
        settled("imagenet", network)
    for normalised in (False, True):
        fitted = settled("imagenet", network, overrides={"output": "b"}, normalised_output=normalised)
        names = [spec.name for spec in compile_post(fitted.post, outputs).signature.outputs]
        assert names == ["a", "scores", "indices"]


def test_labels_are_counted_and_the_recipes_own_give_way() -> None:
    digits = settled("digits", net(1, 28, 28, out=(10,)))
    assert digits.labels == tuple("0123456789")
    assert settled("digits", net(1, 28, 28, out=(10,)), labels=list("abcdefghij")).labels[0] == "a"
    letters = settled("digits", net(1, 28, 28, out=(47,)))
    assert letters.labels == ()
    assert not any(isinstance(step, Labels) for step in letters.post)
    assert "47 classes" in letters.notes[0]
    with pytest.raises(UsageError, match="1001 labels for the 1000 classes") as caught:
        settled("imagenet", net(3, 224, 224), labels=["background"] + ["x"] * 1000)
    assert "leave out the first line, 'background'" in str(caught.value.hint)
    assert "`labels` was dropped" in settled("imagenet", net(3, 224, 224)).notes[-1]


def test_spatial_axes_of_size_one_are_dropped() -> None:
    fitted = settled("imagenet", net(3, 224, 224, out=(1000, 1, 1)), labels=["x"] * 1000)
    assert fitted.post[0] == Squeeze("prob")
    made = compile_post(fitted.post, net(3, 224, 224, out=(1000, 1, 1)).outputs, fitted.labels).signature
    assert made.outputs[0].shape == ("batch", 5)


def test_raw_changes_nothing() -> None:
    network = Signature(
        (TensorSpec("a", "float32", ("batch", 4)), TensorSpec("b", "int64", ("batch",))), net(1).outputs
    )
    assert settled("raw", network) == Resolved((), (), ())


@pytest.mark.parametrize(
    ("name", "network", "overrides", "message", "hint"),
    [
        ("imagenet", net(1, 224, 224), {}, "takes float32.1, 224, 224.", "grey"),
        ("digits", net(3, 28, 28, out=(10,)), {}, "takes float32.3, 28, 28.", "colour"),
        ("imagenet", net(4, 224, 224), {}, "neither 1 nor 3 channels", "raw"),
        ("imagenet", net(3, 224, 320), {}, "224 x 320", "of your own"),
        ("imagenet", net(3, 224, 224, dtype="uint8"), {}, "takes uint8", "end in uint8"),
        ("imagenet", net(3, 224, 224, out=(1,)), {}, "always 1", "sigmoid"),
        ("imagenet", net(5, 3, 224, 224), {}, "is no picture", "raw"),
        ("imagenet-caffe", net(3, 299, 299), {}, "256 x 256 pixels and `center_crop` wants 299", "resize"),
        ("imagenet", net(3, 224, 224), {"sise": 1}, "no parameter 'sise'; it has size, crop_frac", "'size'"),
        ("raw", net(3), {"size": 1}, "no parameter 'size'; it has none", None),
        ("imagenet", net(3, 224, 224), {"size": "big"}, "'size' is int, got 'big'", None),
        ("imagenet", net(3, 224, 224), {"size": 0}, "crop|shorter", None),
        ("imagenet", net(3, 224, 224), {"kernel": "lanczos"}, "lanczos", None),
        ("imagenet", net(3, 224, 224), {"layout": "hw"}, "'hw' does not go with", None),
        ("imagenet", Signature(net(3).inputs * 2, net(3).outputs), {}, "the network has 2", "raw"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(
    name: str, network: Signature, overrides: dict[str, Any], message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError, match=message.replace("`", ".")) as caught:
        settled(name, network, overrides=overrides)
    assert hint is None or hint in str(caught.value.hint)


# -- recipes of the user's -------------------------------------------------------------------------

MINE = """
task = "image-classification"
pre = [ { resize = "$side" }, { channels = "bgr" }, { normalize = { mean = 127.5, std = 127.5 } }, "layout" ]
post = [ "softmax", { top_k = 2 } ]
[decode]
background = [0, 0, 0]
[parameters]
side = 64
"""


def write(folder: Path, text: str | bytes, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_recipe_of_the_users_by_path(tmp_path: Path) -> None:
    path = write(tmp_path, MINE)
    recipe = load_recipe(str(path))
    assert recipe == load_recipe(path)
    assert (recipe.name, recipe.decode.background) == ("mine", (0, 0, 0))
    fitted = resolve(recipe, net=net(48, 48, 3, out=(7,)), overrides={"side": 48})
    assert fitted.pre[0] == Resize(48)
    assert fitted.pre[-1] == Layout("hwc")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("task = ", "not a TOML file", None),
        (b"\xff\xfe\x00", "not a TOML file", None),
        ("[" * 100_000, "not a TOML file", None),
        ("x" * (recipes.MAX_RECIPE_BYTES + 1), "this is no recipe", None),
        ('pre = ["grayscale"]', "task", None),
        (MINE.replace("post", "posts"), "unknown key 'posts'", "'post'"),
        (MINE.replace('"softmax"', '"sofmax"'), "unknown step 'sofmax'", "'softmax'"),
        (MINE.replace("mean =", "means ="), "no parameter 'means'", "'mean'"),
        (MINE.replace('"$side"', '"$sid"'), r"'\$sid' is used and not in", "'side'"),
        (MINE.replace("side = 64", "side = [1]"), r"parameters", None),
        (MINE.replace('"bgr"', '"gbr"'), "gbr", "`order` is one of rgb, bgr"),
        (MINE.replace("[0, 0, 0]", "[0, 0]"), "background|decode", None),
        ('task = "a"\npre = [3]', "expected a step", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_mistakes_in_a_recipe_are_told_with_file_and_spelling(
    tmp_path: Path, text: str | bytes, message: str, hint: str | None
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe named 'digit'; there are detr, digits,") as caught:
        load_recipe("digit")
    assert caught.value.hint == "did you mean 'digits'?"
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            load_recipe(path)
        assert caught.value.at == str(path)
    with pytest.raises(UsageError, match="no recipe named"):
        load_recipe("")


def test_parameters_reach_the_steps() -> None:
    fitted = settled(
        "digits", net(1, 40, 40, out=(10,)), overrides={"mean": "0", "std": 1, "box": 30, "top_k": 3}
    )
    assert Resize(longer=30) in fitted.pre
    assert CenterOfMass(40) in fitted.pre
    assert Normalize(0.0, 1.0) in fitted.pre
    assert TopK(3) in fitted.post


# -- with a real network ---------------------------------------------------------------------------


def test_the_caffe_recipe_reaches_squeezenets_own_accuracy(shared_data: Path) -> None:
    model, photos = shared_data / "squeezenet" / "squeezenet1.1.onnx", shared_data / "imagenet200"
    files = sorted(photos.glob("*.JPEG"))
    if not model.is_file() or not files:
        pytest.skip(f"no SqueezeNet or photos in {shared_data}")
    network = Signature(
        (TensorSpec("data", "float32", ("N", 3, 227, 227)),), (TensorSpec("prob", "float32", ("N", 1000)),)
    )
    fitted = settled("imagenet-caffe", network, normalised_output=True)
    pre, run = session(compile_pre(fitted.pre, "data").data), session(model.read_bytes())
    found = []
    for file in files:
        item = pre.run(None, {"image": np.asarray(Image.open(file).convert("RGB"))})[0]
        found.append(int(run.run(None, {"data": item[None]})[0].argmax()))
    # Every fifth class of the thousand, in the order of the file names.
    assert np.mean(np.array(found) == 5 * np.arange(len(files))) >= 0.69
