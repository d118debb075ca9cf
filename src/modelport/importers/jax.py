"""Functions and networks of JAX, Flax and Equinox: in a file of Python, which is code, or in memory."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from ..errors import InputError, ModelportError, Unsupported, UsageError
from ..tensors import Array, Signature, Tensors, TensorSpec
from .batch import with_batch
from .canonical import canonical, signature_of
from .converted import ConvertedImporter
from .onnx import one_file
from .source import Imported, as_path, file_head, of_module

PACKAGES = frozenset(["jax", "flax", "equinox", "haiku"])
MAX_SOURCE_BYTES = 1 << 20
EXPORTED = b"ML\xefRStableHLO_v"
"""In what `jax.export` serializes, before the portable form of its code."""
HEAD_BYTES = 1 << 16


class JaxImporter(ConvertedImporter):
    """A file of Python that imports JAX, and which of its names (`--class FILE.py:NAME`) is the network."""

    environment = "jax"
    converter = "jax_function"
    what = "a Python file with a function of JAX"
    takes = frozenset({"builder"})

    def recognises(self, source: Any) -> bool:
        """Python that imports one of JAX's libraries, or what `jax.export` serialized."""
        path = as_path(source)
        if path is None or not path.is_file():
            return False
        return EXPORTED in file_head(path, HEAD_BYTES) or bool(_imported(path))

    def danger(self, path: Path) -> Unsupported:
        """A file of Python is run."""
        return Unsupported(
            f"{path} is Python code ({', '.join(sorted(_imported(path)))}): packing runs it",
            hint="if you trust whoever wrote it: --trust (permission=Permission(trust=True) in Python) runs "
            "it in a process of its own, without network",
        )

    def open(self, source: Any, inputs: Sequence[TensorSpec] | None = None) -> Any:
        """See `ConvertedImporter.open`; what `jax.export` wrote is refused."""
        path = as_path(source)
        if path is not None and EXPORTED in file_head(path, HEAD_BYTES):
            raise Unsupported(
                f"{path} is what jax.export serialized: compiled code (StableHLO), which is not converted",
                hint="give the function itself: FILE.py with --class FILE.py:NAME, or jax.jit(function) in "
                "Python",
            )
        return super().open(source, inputs)

    def question(self, path: Path) -> dict[str, Any]:
        """Which name of the file."""
        file, _, name = self.options.builder.rpartition(":")
        if file and Path(file).resolve() != path.resolve() and file != path.name:
            raise UsageError(
                f"--class names {file}, and the source is {path}", hint=f"--class {path.name}:{name}"
            )
        return {"builder": name}


class JaxObjectImporter:
    """A jitted function or a network in memory; converted in this process, where its libraries are."""

    def __init__(self) -> None:
        self._opened: tuple[Any, tuple[TensorSpec, ...], Any, onnx.ModelProto, dict[str, Any]] | None = None

    def recognises(self, source: Any) -> bool:
        """What `jax.jit` made, or a module of Flax or Equinox."""
        if as_path(source) is not None:
            return False
        jitted = type(source).__name__ == "PjitFunction" and type(source).__module__.startswith("jaxlib")
        return jitted or any(of_module(source, package, "Module") for package in ("flax", "equinox"))

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature:
        """Inputs and outputs of the converted function."""
        return signature_of(canonical(self._open(source, inputs)[3])[0])

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Convert, and prove the batch axis against `jax.jit`.

        Raises:
            Unsupported: an operator that has no form in ONNX.
            UsageError: the shapes that it takes were not given.
        """
        _, _, converter, graph, about = self._open(source, inputs)

        def reference(batch: Tensors) -> dict[str, Array]:
            answer: dict[str, Array] = converter.run(dict(batch))
            return answer

        own, changed = canonical(graph)
        model, batch, notes = with_batch(own, reference, example)
        return Imported(
            onnx=one_file(model),
            signature=signature_of(model),
            batch=batch,
            reference=reference,
            framework=str(about["framework"]),
            format="jax",
            notes=(*about["notes"], *changed, *notes),
        )

    def _open(self, source: Any, inputs: Sequence[TensorSpec]) -> Any:
        had = self._opened
        if had is not None and had[0] is source and (not inputs or had[1] == tuple(inputs)):
            return had
        from ..isolation.child.converter import NotConverted, Refused, Unclear
        from ..isolation.child.jax_function import Converter

        converter = Converter()
        specs = [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in inputs]
        kinds: dict[type[Exception], type[ModelportError]] = {
            NotConverted: Unsupported,
            Refused: InputError,
            Unclear: UsageError,
        }
        try:
            about, arrays = converter.open(source, specs)
        except tuple(kinds) as problem:
            hint = str(getattr(problem, "hint", "") or "").replace("--input ", "inputs=") or None
            raise kinds[type(problem)](str(problem), hint=hint) from problem
        graph = onnx.load_model_from_string(arrays["onnx"].tobytes())
        self._opened = (source, tuple(inputs), converter, graph, about)
        return self._opened


def _imported(path: Path) -> set[str]:
    """Which of JAX's libraries a file of Python imports; none where it is no Python. Nothing is run."""
    if path.stat().st_size > MAX_SOURCE_BYTES:
        return set()
    data = path.read_bytes()
    if b"\0" in data or not any(name.encode() in data for name in PACKAGES):
        return set()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found & PACKAGES
