"""What a PyTorch file would run where it is opened, and whether the user allows that. Imports no torch."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from ..errors import InputError, NotFound, Unsupported
from .checkpoint import HARMFUL, from_torch, pickled_names
from .source import Permission, file_head, zip_members
from .strange import READS
from .torch_program import code_in, refuse_objects

SHOWN = 6
MAX_CODE = 16 << 20
STANDARD = ("aten", "prim", "prims", "quantized", "torchvision")
"""Namespaces of operators that torch and torchvision bring."""
FILES = ("from_file", "save", "load")
"""Operators that touch files."""
TENSORS = ("torch", "collections", "numpy", "_codecs", "__builtin__", "builtins")
TRUST = (
    "if you trust whoever made it: --trust (permission=Permission(trust=True) in Python) opens it in a "
    "process of its own, without network"
)


def permitted(path: Path, kind: str, builder: str, permission: Permission) -> str:
    """What the converter is to read the file as: `torchscript`, `pt2`, `weights` or `pickle`.

    Args:
        kind: of `checkpoint.kind_of_file`.
        builder: the user's `FILE.py:NAME`, or "".

    Raises:
        Unsupported: it is code and not trusted, holds no network, or what nothing here opens.
    """
    file = builder.rpartition(":")[0]
    if file.endswith(".py") and not Path(file).is_file():
        raise NotFound(f"no such file: {file}", hint="--class FILE.py:NAME")
    if kind == "torchscript":
        _script(path, permission)
    elif kind == "pt2":
        _program(path, permission)
    else:
        kind = _pickle(path, kind, builder, permission)
    if file.endswith(".py") and not permission.trust:
        raise Unsupported(
            f"--class runs {file}, which is code",
            hint="--trust runs it in a process of its own, without network",
        )
    return kind


def script_contents(path: Path) -> tuple[list[str], list[str]]:
    """The source files in a TorchScript archive, and the operators that they call: `torch.conv2d`.

    A mobile file in flatbuffer form has no source; its operators are found by their names.
    """
    if file_head(path, 8)[4:8] == b"PTMF":
        with path.open("rb") as stream:
            named = re.findall(rb"\b(\w+)::(\w+)", stream.read(MAX_CODE))
        return [], sorted({_operator(space.decode(), name.decode()) for space, name in named})
    files = [name for name in zip_members(path) if re.fullmatch(r"([^/]+/)?code/.*\.py", name)]
    operators: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            for name in files:
                with archive.open(name) as packed:
                    text = packed.read(MAX_CODE).decode(errors="replace")
                operators |= {f"torch.{found}" for found in re.findall(r"\btorch\.([a-z_]\w*)\(", text)}
                calls = re.findall(r"\bops\.(\w+)\.(\w+)\(", text)
                operators |= {_operator(space, name) for space, name in calls}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError):
        return files, []  # damaged or under a password: whoever opens it says so
    return files, sorted(operators)


def _operator(space: str, name: str) -> str:
    return f"torch.{name}" if space in ("aten", "prim") else f"{space}.{name}"


def _script(path: Path, permission: Permission) -> None:
    files, operators = script_contents(path)
    mobile = file_head(path, 8)[4:8] == b"PTMF"
    if not files and not mobile and any(name.endswith("bytecode.pkl") for name in zip_members(path)):
        raise Unsupported(
            f"{path} is for PyTorch's lite interpreter only: it holds bytecode and no TorchScript",
            hint="save the module with torch.jit.save(module, 'model.pt'), and pack that",
        )
    if permission.trust:
        return
    own = [name for name in operators if name.split(".")[0] not in ("torch", *STANDARD)]
    touching = [name for name in operators if name in {f"torch.{one}" for one in FILES}]
    # What the author wrote, before what came with torch.
    shown = sorted((re.sub(r"^.*?code/(__torch__/)?", "", name) for name in files), key=_of_torch)
    inside = f"{len(files)} source file{'s' * (len(files) != 1)} ({_some(shown)})"
    inside = inside if files else "a program for mobile devices"
    said = f"{path} is TorchScript, which is code: {inside}, calling {_some(operators) or 'no operators'}"
    if touching:
        said += f"; {_some(touching)} would touch files, which no network needs"
    if own:
        said += f"; {_some(own)} are no operators of torch"
    raise Unsupported(f"{said}; opening it runs code from the file", hint=TRUST)


def _of_torch(name: str) -> bool:
    return name.startswith("torch/")


def _program(path: Path, permission: Permission) -> None:
    refuse_objects(path)
    if permission.trust:
        return
    if odd := code_in(path):
        shown = ", ".join(repr(text[:80]) for text in odd[:2])
        raise Unsupported(
            f"{path} is a torch.export program with text that torch would run as code while it reads it: "
            f"{shown}{' …' if len(odd) > 2 else ''}; torch.export writes none of that form",
            hint=TRUST,
        )


def _pickle(path: Path, kind: str, builder: str, permission: Permission) -> str:
    names = sorted(pickled_names(path)) if kind == "pickle" else []
    classes = [name for name in names if name.split(".")[0] not in TENSORS or ".nn." in name]
    if harmful := [name for name in names if name.startswith(HARMFUL)]:
        raise Unsupported(
            f"{path} holds a pickled object of {_some(harmful)}; opening it would run code from the file, so "
            "it is not opened",
            hint="do not open it anywhere; no model needs that",
        )
    if kind == "pickle" and not from_torch(path):
        if not names:
            raise InputError(f"{path} is a pickle of plain values: there is no model in it", hint=READS)
        raise Unsupported(
            f"{path} is a pickle of {_some(names)}, and neither of PyTorch's nor of scikit-learn's making",
            hint="torch.save writes a network of PyTorch, and modelport.pack(net, …) takes it from memory; a "
            "model without a converter is packed as a Python function: FILE.py:NAME",
        )
    if classes and not permission.trust:
        raise Unsupported(
            f"{path} holds a pickled object of {_some(classes)}; opening it would run code from the file",
            hint=f"{TRUST}{_class_of(classes, builder)}; or save its weights alone: "
            "torch.save(net.state_dict(), 'weights.pt')",
        )
    if classes:
        return "pickle"
    if not names and kind == "pickle":
        if not permission.trust:
            raise Unsupported(f"{path} holds a pickle; opening it would run code from the file", hint=TRUST)
        return "pickle"
    if not builder:
        raise Unsupported(
            f"{path} holds weights (a state_dict) and no network",
            hint="say what builds it: --class FILE.py:NAME --trust (in Python "
            "options=SourceOptions(builder='FILE.py:NAME'), permission=Permission(trust=True)); "
            "or load it in Python and pack that: "
            f"net.load_state_dict(torch.load({path.name!r}, weights_only=True)); "
            "modelport.pack(net, out='repo', name='…', recipe='…')",
        )
    return "weights"


def _class_of(classes: list[str], builder: str) -> str:
    own = [name for name in classes if name.split(".")[0] != "torch"]
    return f", with the file that defines {own[0]}: --class FILE.py:NAME" if own and not builder else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
