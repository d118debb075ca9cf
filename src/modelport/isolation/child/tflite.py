"""A TensorFlow Lite model to ONNX, by tf2onnx; a quantised one so that its whole numbers stay the same."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .converter import NotConverted, Refused, Unclear, last_words
from .frames import Array
from .tensorflow_graph import Said, import_tensorflow, in_blocks, name_open_axes, packed, rename, to_onnx
from .tflite_metadata import Metadata, metadata_of
from .tflite_whole_numbers import exact_sums

PROBABILITIES = ("SOFTMAX", "LOGISTIC")
WHOLE = ("uint8", "int8", "int16")


class Converter:
    """`open` converts; `run` computes a batch with TensorFlow Lite's interpreter."""

    def __init__(self) -> None:
        self.interpreter: Any = None
        self.inputs: dict[str, dict[str, Any]] = {}
        """Names in ONNX to the interpreter's details."""
        self.outputs: dict[str, dict[str, Any]] = {}
        self.rows: int | None = None

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            return self.open(Path(fields["path"]), fields["inputs"])
        return {}, in_blocks(self.run, arrays, self.rows)

    def open(self, path: Path, said: Said) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model is (JSON), and the ONNX file as uint8[bytes].

        Raises:
            Refused: damaged. NotConverted: it has an operator without a counterpart.
        """
        tf = import_tensorflow()
        data = path.read_bytes()
        # The interpreter follows offsets that lead out of a file that was cut short.
        last_words(
            Refused(
                f"TensorFlow Lite ended while it read {path.name}: the file is cut short or damaged",
                "copy or download it again, and compare its size",
            )
        )
        self.interpreter = _interpreter(tf, path)
        last_words(None)
        model = to_onnx(
            "the TensorFlow Lite model", None, tflite_path=str(path), input_names=None, output_names=None
        )
        self._name(model)
        if strange := sorted({str(each["name"]) for each in said} - set(self.inputs)):
            raise Unclear(f"the model has no input {strange[0]!r}; it has {', '.join(self.inputs)}")
        for name, details in self.inputs.items():
            _set_sizes(model, name, details)
        name_open_axes(model, said)
        firsts = {int(details["shape_signature"][0]) for details in self.inputs.values()}
        self.rows = max(1, *firsts) if len(firsts) == 1 else None
        notes = []
        if sums := exact_sums(model):
            notes.append(f"{sums} sums of quantised numbers are computed in whole numbers, as XNNPACK does")
        rounded = _rounds_as_it_goes(self.interpreter)
        if rounded:
            notes.append(
                f"{', '.join(rounded)} have weights of 8 bits and take floats (dynamic range quantisation): "
                "TensorFlow Lite rounds these to 8 bits on the way, for each input anew; the packed network "
                "computes in floats, so that its golden cases allow 1 % of the largest value"
            )
        metadata = metadata_of(data)
        about = {
            "quantised": bool(rounded),
            "kind": "tflite",
            "framework": f"tensorflow lite {tf.__version__}",
            "notes": notes,
            "labels": list(metadata.labels),
            "declared": self._declared(metadata),
        }
        return about, packed(model)

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs to outputs by their names in ONNX, as the interpreter computes them."""
        own = self.interpreter
        changed = False
        for name, details in self.inputs.items():
            index, shape = details["index"], list(arrays[name].shape)
            if shape != own.get_input_details()[details["place"]]["shape"].tolist():
                own.resize_tensor_input(index, shape)
                changed = True
        if changed:
            own.allocate_tensors()
        for name, details in self.inputs.items():
            own.set_tensor(details["index"], np.ascontiguousarray(arrays[name]))
        own.invoke()
        return {name: np.array(own.get_tensor(each["index"])) for name, each in self.outputs.items()}

    def _name(self, model: Any) -> None:
        """Names of the signature where the model has one, and else the tensors' own without decoration."""
        own = self.interpreter
        given: dict[str, Any] = getattr(own, "_get_full_signature_list", dict)()
        signature = next(iter(given.values())) if len(given) == 1 else {}
        sides = []
        for side, details in (("inputs", own.get_input_details()), ("outputs", own.get_output_details())):
            called = {index: name for name, index in signature.get(side, {}).items()}
            named = zip(_names(details, called, side), details, strict=True)
            sides.append({name: {**each, "place": place} for place, (name, each) in enumerate(named)})
        self.inputs, self.outputs = sides
        renames: dict[str, str] = {}
        for values, held in ((model.graph.input, self.inputs), (model.graph.output, self.outputs)):
            if len(values) != len(held):
                raise NotConverted(f"tf2onnx made {len(values)} inputs or outputs of {len(held)}")
            by_tensor = {str(each["name"]): name for name, each in held.items()}
            for value, name in zip(values, held, strict=True):
                renames[value.name] = by_tensor.get(value.name, name)
        rename(model, renames)

    def _declared(self, metadata: Metadata) -> dict[str, Any]:
        """What says how a picture is prepared: the metadata, and the quantisation of input and output."""
        first, last = next(iter(self.inputs.values())), next(iter(self.outputs.values()))
        ends = _last_operator(self.interpreter)
        return {
            "mean": list(metadata.mean),
            "std": list(metadata.std),
            "colours": metadata.colours,
            "input": _quantisation(first),
            "output": _quantisation(last),
            "probabilities": ends in PROBABILITIES,
        }


def _interpreter(tf: Any, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = tf.lite.Interpreter(str(path), num_threads=1)
        own.allocate_tensors()
    except (ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())[:300]
        if "nresolved custom op" in reason or "Select TensorFlow op" in reason:
            raise NotConverted(
                f"the model has an operator of its own: {reason}",
                "export it from TensorFlow Lite's built-in operators",
            ) from problem
        raise Refused(
            f"TensorFlow Lite does not read {path.name}: {reason}", "it may be cut short"
        ) from problem
    return own


def _names(details: list[dict[str, Any]], called: dict[int, str], side: str) -> list[str]:
    """A name for each tensor, all different."""
    plain = side.removesuffix("s")
    names = []
    for place, each in enumerate(details):
        name = called.get(each["index"]) or each["name"]
        name = re.sub(r"^serving_default_|:0$", "", name)
        if name.startswith(("StatefulPartitionedCall", "PartitionedCall")):
            name = plain if len(details) == 1 else f"{plain}_{place}"
        names.append(name)
    if len(set(names)) < len(names):
        return [each["name"] for each in details]
    return names


def _set_sizes(model: Any, name: str, details: Mapping[str, Any]) -> None:
    """The sizes of an input as the model states them; -1 is open."""
    value = next(each for each in model.graph.input if each.name == name)
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in details["shape_signature"]:
        dim = shape.dim.add()
        if size > 0:
            dim.dim_value = int(size)


def _quantisation(details: Mapping[str, Any]) -> dict[str, Any]:
    """`dtype`, and for whole numbers what they stand for: (q - zero_point) * scale."""
    dtype = np.dtype(details["dtype"]).name
    scale, zero = details["quantization"]
    if dtype not in WHOLE or not scale:
        return {"dtype": dtype}
    return {"dtype": dtype, "scale": float(scale), "zero_point": int(zero)}


def _operators(interpreter: Any) -> list[dict[str, Any]]:
    """The operators in order; none where the interpreter does not tell."""
    try:
        # A delegate's own node comes behind the operators that it stands for.
        return [each for each in interpreter._get_ops_details() if each["op_name"] != "DELEGATE"]
    except (AttributeError, ValueError):
        return []


def _rounds_as_it_goes(interpreter: Any) -> list[str]:
    """The kinds of operators that take floats and have 8-bit weights."""
    dtypes = {each["index"]: np.dtype(each["dtype"]).name for each in interpreter.get_tensor_details()}
    found: set[str] = set()
    for each in _operators(interpreter):
        taken = [dtypes.get(int(index), "") for index in each["inputs"][:2]]
        if each["op_name"] != "QUANTIZE" and taken[:1] == ["float32"] and taken[1:] in (["int8"], ["uint8"]):
            found.add(str(each["op_name"]))
    return sorted(found)


def _last_operator(interpreter: Any) -> str:
    """The operator that makes the first output, but for those that only store it in another way."""
    index = interpreter.get_output_details()[0]["index"]
    operators = _operators(interpreter)
    name = ""
    for each in reversed(operators):
        if index in each["outputs"]:
            name, index = str(each["op_name"]), each["inputs"][0]
            if name not in ("QUANTIZE", "DEQUANTIZE", "RESHAPE"):
                return name
    return name
