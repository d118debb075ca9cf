"""A Hugging Face folder to ONNX: picture and text classifiers and detectors, by transformers' own classes.

Code that a folder brings along is never run. What the folder says of its input (processor, tokenizer) comes
back as `declared`; `prepare` and `tokens` have the processor and the tokenizer do it, to compare with.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from . import huggingface_pictures as pictures
from . import huggingface_text as text
from .converter import NotConverted, Refused, Unclear
from .frames import Array
from .huggingface_export import export

HEADS = {
    "ImageClassification": "image-classification",
    "ImageClassificationWithTeacher": "image-classification",
    "SequenceClassification": "text-classification",
    "ObjectDetection": "object-detection",
}
OUTPUTS = {"object-detection": ("logits", "pred_boxes")}
PICTURE = "pixel_values"
SIZE_HINT = f"--input {PICTURE}:float32[batch,3,224,224]"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
SCENES = ((48, 64), (90, 50))
"""Height and width of two pictures, to see whether the processor makes one size of all."""


class Converter:
    """Opens one folder."""

    def __init__(self) -> None:
        self.network: Any = None
        self.inputs: list[str] = []
        self.outputs: tuple[str, ...] = ()
        self.processor: Any = None
        self.tokenizer: text.Tokenizer | None = None
        self.channels = 3

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            about, onnx = self.open(Path(str(fields["path"])), list(fields.get("inputs", ())))
            return about, {"onnx": onnx}
        if fields["do"] == "prepare":
            return {}, {PICTURE: self.prepare(arrays["image"])}
        if fields["do"] == "tokenizer":
            assert self.tokenizer is not None
            return {}, {"tokenizer": self.tokenizer.file()}
        if fields["do"] == "tokens":
            assert self.tokenizer is not None
            return {}, self.tokenizer.tokens(str(fields["text"]))
        return {}, self.run(arrays)

    def open(self, folder: Path, inputs: list[dict[str, Any]]) -> tuple[dict[str, Any], Array]:
        """What the folder holds (JSON), and the network as uint8[bytes].

        Raises:
            Refused: files that are damaged or do not fit together.
            NotConverted: a task or a model that is not converted, or code that the folder brings along.
        """
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_TELEMETRY="1")
        import torch
        import transformers

        torch.set_grad_enabled(False)
        config = _config(transformers, folder)
        architecture, task = _task(config)
        model, notes = _model(transformers, torch, folder, config, architecture)
        self.outputs = OUTPUTS.get(task, ("logits",))
        if task == "text-classification":
            declared, example, axes, limits = self._text(transformers, torch, folder, config, model)
        else:
            declared, example, axes, limits = self._picture(transformers, torch, folder, config, inputs)
        self.network = _network(torch, model, self.inputs, self.outputs)
        onnx, told = export(torch, self.network, example, axes, self.inputs, self.outputs, limits)
        about = {
            "framework": f"transformers {transformers.__version__}, "
            f"torch {torch.__version__.split('+')[0]} ({architecture})",
            "kind": "huggingface",
            "labels": _labels(config),
            "notes": [*notes, *told],
            "task": task,
            "activation": _activation(config, task),
            "declared": declared,
        }
        return about, onnx

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """The network's outputs for a batch, by torch."""
        import torch

        given = [torch.from_numpy(np.array(arrays[name], order="C")) for name in self.inputs]
        made = self.network(*given)
        made = made if isinstance(made, tuple) else (made,)
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, made, strict=True)}

    def prepare(self, image: Array) -> Array:
        """uint8[height, width, 3] to what the folder's own processor makes of it, without the batch axis."""
        from PIL import Image

        picture = Image.fromarray(image)
        picture = picture.convert("L") if self.channels == 1 else picture
        return np.asarray(self.processor(images=picture, return_tensors="np")[PICTURE][0])

    def _picture(
        self, transformers: Any, torch: Any, folder: Path, config: Any, inputs: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[Any], list[dict[int, str]], dict[str, int]]:
        """What is declared, an example, its open axes and their bounds."""
        self.inputs = [PICTURE]
        self.channels = int(getattr(config, "num_channels", 3) or 3)
        declared: dict[str, Any] = {}
        self.processor = _processor(transformers, folder)
        axes = {0: "batch"}
        if self.processor is not None:
            made = [self.prepare(np.full((*scene, 3), 99, np.uint8)) for scene in SCENES]
            shape = made[0].shape
            if made[0].shape != made[1].shape:
                axes |= {2: "height", 3: "width"}
            name = pictures.name_of(self.processor)
            declared = {"name": name}
            try:
                declared["steps"] = pictures.steps(self.processor, self.channels)
            except NotConverted as problem:
                declared["problem"] = f"its image processor ({name}) {problem}"
        elif inputs:
            shape = tuple(inputs[0]["shape"][1:])
        else:
            shape = (self.channels, *_sides(config))
        if not all(isinstance(side, int) for side in shape):
            raise Unclear(
                "the picture's size must be a number", f"--input {PICTURE}:float32[batch,3,224,224]"
            )
        return declared, [torch.randn(2, *shape)], [axes], {}

    def _text(
        self, transformers: Any, torch: Any, folder: Path, config: Any, model: Any
    ) -> tuple[dict[str, Any], list[Any], list[dict[int, str]], dict[str, int]]:
        """The same for a text."""
        self.tokenizer = text.Tokenizer(transformers, folder, config, model)
        self.inputs = self.tokenizer.inputs
        axes = [{0: "batch", 1: "length"} for _ in self.inputs]
        example = [torch.from_numpy(array) for array in self.tokenizer.example()]
        return self.tokenizer.declared(), example, axes, {"length": self.tokenizer.max_length}


def _config(transformers: Any, folder: Path) -> Any:
    try:
        told = json.loads((folder / "config.json").read_text("utf-8"))
        assert isinstance(told, dict)
    except (OSError, ValueError, AssertionError) as problem:
        raise Refused(f"config.json is not a model's configuration: {problem}") from problem
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as problem:
        kind = told.get("model_type")
        code = sorted(path.name for path in folder.glob("*.py"))
        named = told.get("auto_map") or {}
        if code or named:
            brought = ", ".join(code or sorted({str(name).split(".")[0] for name in named.values()}))
            raise NotConverted(
                f"the model type {kind!r} is code that the folder brings along ({brought}); it is never run",
                "export the network to ONNX where you trust that code, and pack the ONNX file",
            ) from problem
        raise NotConverted(
            f"transformers {transformers.__version__} knows no model type {kind!r}",
            "was it made with a newer version?",
        ) from problem


def _task(config: Any) -> tuple[str, str]:
    """The architecture and what it is for."""
    names = getattr(config, "architectures", None) or []
    for name in names:
        for head, task in HEADS.items():
            if str(name).endswith(f"For{head}"):
                return str(name), task
    raise NotConverted(
        f"the folder holds {', '.join(names) or 'a network without a head'}; "
        "read are …ForImageClassification, …ForSequenceClassification and …ForObjectDetection",
        "export other networks to ONNX yourself, and pack the file",
    )


def _model(
    transformers: Any, torch: Any, folder: Path, config: Any, architecture: str
) -> tuple[Any, list[str]]:
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise NotConverted(f"transformers {transformers.__version__} has no {architecture}")
    tensors = any(folder.glob("*.safetensors"))
    try:
        model, loaded = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=tensors,
            output_loading_info=True,
        )
    except ImportError as problem:
        raise NotConverted(f"{architecture} needs more than transformers: {problem}") from problem
    except Exception as problem:  # of safetensors, torch.load or transformers
        first = next((line for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
        raise Refused(f"the weights cannot be read for {architecture}: {first[:300]}") from problem
    missing = sorted(map(str, loaded.get("missing_keys", ())))
    if missing:
        raise Refused(
            f"the weights are not those of {architecture}: {len(missing)} tensors are missing "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''})",
            "a folder of a base model has no trained head: give the fine-tuned one",
        )
    notes = []
    if getattr(config, "auto_map", None):
        notes.append(
            f"the folder names code of its own; it was not run: {architecture} is transformers' own class"
        )
    return model.eval(), notes


def _network(torch: Any, model: Any, inputs: list[str], outputs: tuple[str, ...]) -> Any:
    class Network(torch.nn.Module):  # type: ignore[misc]  # Any here: mypy follows no framework
        """Tensors in and tensors out, where the model gives an object."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            made = self.model(**dict(zip(inputs, given, strict=True)))
            return made[outputs[0]] if len(outputs) == 1 else tuple(made[name] for name in outputs)

    return Network().eval()


def _processor(transformers: Any, folder: Path) -> Any:
    if not any((folder / name).is_file() for name in PROCESSORS):
        return None
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
    except (ValueError, OSError, KeyError, TypeError) as problem:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise NotConverted(
            f"its image processor cannot be read: {first[:300]}",
            "without preprocessor_config.json in the folder a --recipe can be given",
        ) from problem


def _sides(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    raise Unclear(
        "the folder does not say which size of picture the network takes",
        SIZE_HINT,
    )


def _labels(config: Any) -> list[str]:
    names = getattr(config, "id2label", None) or {}
    return [str(names[index]) for index in sorted(names, key=int)]


def _activation(config: Any, task: str) -> str:
    """What transformers' own pipelines put behind the logits; empty where the answer is no class."""
    if getattr(config, "problem_type", None) == "regression":
        return ""
    if task == "text-classification" and getattr(config, "num_labels", 2) == 1:
        return "sigmoid"
    multi = getattr(config, "problem_type", None) == "multi_label_classification"
    return "sigmoid" if multi else "softmax"
