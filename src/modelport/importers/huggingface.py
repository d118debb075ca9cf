"""Hugging Face folders: config.json, weights, and what says how pictures or texts are prepared.

The folder's own image processor becomes steps, and is held against them picture by picture; its tokenizer
becomes steps where ONNX has the operators, and otherwise a file of the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.manifest import Decode
from ..errors import InputError, Unsupported
from ..steps.compile import PRE_STEPS, reference_pre
from ..steps.recipe import Recipe, load_recipe
from ..steps.step import parse_steps
from ..steps.texts import Tokenizer, decode_text
from ..tensors import Array, TensorSpec
from .checkpoint import pickled_names
from .converted import ConvertedImporter, Opened
from .isolated import refusal
from .pictures import LAST_DIGITS, difference
from .source import Declared, Imported, as_path
from .strange import LFS_POINTER

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
MAX_CONFIG_BYTES = 4 << 20
OWN = ("torch.", "collections.")


class HuggingFaceImporter(ConvertedImporter):
    """The folder, or one of its files: config.json or the weights."""

    environment = "transformers"
    converter = "huggingface"
    what = "a Hugging Face folder"

    def recognises(self, source: Any) -> bool:
        """A config.json that names a model type, in the folder or beside the file."""
        folder = folder_of(source)
        return folder is not None and "model_type" in _config(folder)

    def danger(self, path: Path) -> Unsupported | None:
        """Weights that are a pickle; safetensors are not."""
        folder = folder_of(path) or path
        if any(folder.glob("*.safetensors")):
            return None
        names: set[str] = set()
        for pickled in sorted(folder.glob("pytorch_model*.bin")):
            names |= pickled_names(pickled)
        if not names:
            return None
        foreign = sorted(name for name in names if not name.startswith(OWN))
        what = "a Hugging Face folder with its weights in pytorch_model.bin"
        return refusal(path, what, sorted(names), foreign)

    def question(self, path: Path) -> dict[str, Any]:
        """The folder, whichever of its files was given."""
        folder = folder_of(path) or path
        _check_weights(folder)
        return {"path": str(folder.resolve())}

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """What the image processor or the tokenizer says."""
        opened = self.open(source, inputs or None)
        said, task = opened.about.get("declared"), str(opened.about.get("task"))
        activation = str(opened.about.get("activation", ""))
        if not isinstance(said, dict) or not said or not activation:
            if not said and task.startswith("image"):
                self.permission.tell("the folder has no image processor (preprocessor_config.json)")
            return None
        if task == "text-classification":
            return _text(opened, said, activation)
        if (problem := said.get("problem")) or not isinstance(said.get("steps"), list):
            self.permission.tell(str(problem)[:500])
            return None
        steps = said["steps"]
        differs, count = difference(
            parse_steps(steps, PRE_STEPS, "$.pre"),
            lambda picture: opened.worker.call({"do": "prepare"}, {"image": picture})[1]["pixel_values"],
        )
        name = f"its image processor ({str(said.get('name'))[:80]})"
        if differs > LAST_DIGITS:
            how = f"by {differs:.2g} of the largest number" if np.isfinite(differs) else "in size"
            self.permission.tell(
                f"{name} does something that its settings do not say: what the steps read from them make "
                f"differs {how}, so they are not taken"
            )
            return None
        kept = "in every bit" if not differs else f"but for {differs:.1g} of the largest number"
        recipe = _picture(task, activation, tuple(steps), opened)
        return Declared(recipe, f"{name}, and gives the same {kept} for {count} pictures")

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """As every conversion; a text classifier's batch is proven with texts."""
        opened = self.open(source, inputs or None)
        if example is None and opened.about.get("task") == "text-classification":
            example = _rows(opened)
        return super().load(source, example=example, inputs=inputs)


def folder_of(source: Any) -> Path | None:
    """The folder that `source` is or lies in, where it has a config.json."""
    path = as_path(source)
    if path is None:
        return None
    if path.is_dir():
        return path if (path / CONFIG).is_file() else None
    belongs = path.name == CONFIG or path.suffix == ".safetensors" or path.name.startswith("pytorch_model")
    return path.parent if belongs and (path.parent / CONFIG).is_file() else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        if (folder / CONFIG).stat().st_size > MAX_CONFIG_BYTES:
            return {}
        told = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _check_weights(folder: Path) -> None:
    """Refuses a folder without weights, or with what git left in their place."""
    found = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    if not found:
        others = ", ".join(sorted(path.name for path in folder.glob("*model*") if path.is_file())[:4])
        raise InputError(
            f"{folder} has neither model.safetensors nor pytorch_model.bin"
            + (f", but {others}" * bool(others)),
            hint="AutoModel….from_pretrained(folder).save_pretrained(folder) writes model.safetensors",
        )
    for path in found:
        with path.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise InputError(
                    f"{path} is a pointer of Git LFS, not the weights", hint="git lfs pull fetches them"
                )


def _picture(task: str, activation: str, steps: tuple[Any, ...], opened: Opened) -> Recipe:
    if task == "object-detection":
        return _detector(steps, opened)
    return Recipe(
        name="huggingface",
        task=task,
        description="As the folder's own image processor prepares pictures.",
        parameters={"top_k": 5},
        pre=steps,
        post=({activation: {}}, {"top_k": {"k": "$top_k"}}, "labels"),
    )


def _detector(steps: tuple[Any, ...], opened: Opened) -> Recipe:
    """DETR's own head, or RT-DETR's, which has no class for nothing."""
    labels = opened.about.get("labels")
    classes = len(labels) if isinstance(labels, list) else 0
    scores = next(out for out in opened.graph.graph.output if out.name == "logits")
    background = scores.type.tensor_type.shape.dim[2].dim_value == classes + 1
    known = load_recipe("detr" if background else "rtdetr")
    named = {"boxes": "pred_boxes", "scores": "logits"}
    parameters = {
        name: value for name, value in known.parameters.items() if name not in ("size", "shorter", "longest")
    }
    return msgspec.structs.replace(
        known, name="huggingface", pre=steps, parameters=parameters | named, labels=()
    )


def _text(opened: Opened, said: Mapping[str, Any], activation: str) -> Declared:
    """The tokenizer as steps or as a file, equal to the folder's own on texts of its words."""
    name = f"its tokenizer ({str(said.get('name'))[:80]})"
    recipe = Recipe(
        name="huggingface",
        task="text-classification",
        description="As the folder's own tokenizer cuts texts.",
        parameters={"top_k": 5},
        post=({activation: {}}, {"top_k": {"k": "$top_k"}}, "labels"),
    )
    steps = said.get("steps")
    if isinstance(steps, list):
        recipe = msgspec.structs.replace(recipe, decode=Decode(kind="text"), pre=tuple(steps))
    else:
        data = opened.worker.call({"do": "tokenizer"})[1]["tokenizer"].tobytes()
        decode = Decode(
            kind="text",
            tokenizer=TOKENIZER,
            max_length=int(said["max_length"]),
            pad_token=str(said.get("pad_token") or "[PAD]"),
        )
        recipe = msgspec.structs.replace(recipe, decode=decode, files={TOKENIZER: data})
    texts = texts_of(opened)
    for text in texts:
        want = opened.worker.call({"do": "tokens", "text": text})[1]
        if not _same_tokens(_tokens(recipe, text, list(want)), want):
            raise Unsupported(
                f"{name} does something that its tokenizer.json does not say: {text!r} is cut differently",
                hint="--recipe raw packs the network alone: token ids in, logits out",
            )
    return Declared(recipe, f"{name}, and gives the same tokens for {len(texts)} texts")


def _tokens(recipe: Recipe, text: str, names: list[str]) -> dict[str, Array]:
    """What the bundle will make of a text."""
    decoded = decode_text(text, recipe.decode)
    if recipe.decode.tokenizer is not None:
        return Tokenizer(recipe.files[TOKENIZER], recipe.decode, names).tokens(decoded)
    return {names[0]: reference_pre(parse_steps(recipe.pre, PRE_STEPS, "$.pre"), decoded["text"])}


def _same_tokens(got: Mapping[str, Array], want: Mapping[str, Array]) -> bool:
    return all(name in got and np.array_equal(got[name], want[name]) for name in want)


def _rows(opened: Opened) -> dict[str, Array] | None:
    """Three texts of as many tokens."""
    made = [opened.worker.call({"do": "tokens", "text": text})[1] for text in texts_of(opened)[:3]]
    if not made:
        return None
    length = min(len(next(iter(each.values()))) for each in made)
    return {name: np.stack([each[name][:length] for each in made]) for name in made[0]}


def texts_of(opened: Opened, count: int = 8) -> list[str]:
    """Texts of words that the tokenizer knows, and some that it does not; the same ones each time."""
    said = opened.about.get("declared")
    words = [str(word)[:40] for word in said.get("words", ())] if isinstance(said, dict) else []
    random = np.random.default_rng(20)
    known = words or ["a", "good", "bad", "film"]
    texts = [" ".join(random.choice(known, int(random.integers(3, 24))).tolist()) for _ in range(count)]
    return [*texts[:-1], "Über: 3 ÄPFEL, naïve — don't; 日本語 " + texts[-1]]
