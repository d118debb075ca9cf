"""Compile src/modelport/protos/*.proto to the .binpb and .pyi beside them.

    pip install grpcio-tools && python scripts/protos.py            # write
    python scripts/protos.py --check                                # exit 1 if they are out of date

Any protoc will do: only the description is taken from it, none of its generated code.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

PROTOS = Path(__file__).resolve().parents[1] / "src" / "modelport" / "protos"
Field = descriptor_pb2.FieldDescriptorProto

SCALARS = {
    Field.TYPE_DOUBLE: "float",
    Field.TYPE_FLOAT: "float",
    Field.TYPE_INT64: "int",
    Field.TYPE_UINT64: "int",
    Field.TYPE_INT32: "int",
    Field.TYPE_UINT32: "int",
    Field.TYPE_ENUM: "int",
    Field.TYPE_BOOL: "bool",
    Field.TYPE_STRING: "str",
    Field.TYPE_BYTES: "bytes",
}

HEAD = '''\
# Written by scripts/protos.py from {name}; do not edit.
"""The types of {stem}.py."""

from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from typing import Any, Literal, NamedTuple, Self, TypeVar

_K = TypeVar("_K")
_M = TypeVar("_M", bound="Message")

class Message:
    """What every message can do."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...
    def ParseFromString(self, data: bytes) -> int: ...
    @classmethod
    def FromString(cls, data: bytes) -> Self: ...
    def ByteSize(self) -> int: ...
    def ListFields(self) -> list[tuple[Any, Any]]: ...
    def CopyFrom(self, other: Self) -> None: ...
    def MergeFrom(self, other: Self) -> None: ...
    def Clear(self) -> None: ...
    def ClearField(self, name: str) -> None: ...

class Messages(MutableSequence[_M], metaclass=ABCMeta):
    """A repeated field of messages."""

    def add(self, **fields: Any) -> _M: ...

class MessageMap(Mapping[_K, _M], metaclass=ABCMeta):
    """A map whose values are messages: reading a key that is not there makes it."""

    def get_or_create(self, key: _K) -> _M: ...

class Method(NamedTuple):
    name: str
    path: str
    request: type[Message]
    response: type[Message]
    streams: bool

SERVICE: str
METHODS: dict[str, Method]
POOL: Any
'''


def compiled(proto: Path) -> bytes:
    """The file's description, as protoc writes it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}"]
        subprocess.run([*command, f"--descriptor_set_out={out}", proto.name], check=True, cwd=proto.parent)
        return out.read_bytes()


def stubs(proto: Path, file: Any) -> str:
    """The .pyi text of one file."""
    lines = [HEAD.format(name=proto.name, stem=proto.stem)]
    for enum in file.enum_type:
        lines += [f"class {enum.name}:", *_enum(enum)]
        lines += ["    @staticmethod", "    def Name(number: int) -> str: ..."]
        lines += ["    @staticmethod", "    def Value(name: str) -> int: ...", ""]
    for message in file.message_type:
        lines += [*_message(message, file.package), ""]
    lines += ["class Stub:", "    def __init__(self, channel: Any) -> None: ..."]
    lines += [f"    {method.name}: Callable[..., Any]" for method in file.service[0].method]
    return "\n".join(lines) + "\n"


def _message(message: Any, package: str) -> list[str]:
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    body: list[str] = []
    for enum in message.enum_type:
        body += _enum(enum)
    for nested in message.nested_type:
        if nested.name not in maps:
            body += ["    " + line for line in _message(nested, package)]
    arguments = ["self"]
    for field in message.field:
        held, given = _types(field, maps, package)
        body.append(f"    {field.name}: {held}")
        arguments += (["*"] if arguments == ["self"] else []) + [f"{field.name}: {given} | None = ..."]
    if message.field:
        body.append(f"    def __init__({', '.join(arguments)}) -> None: ...")
    present = [field for field in message.field if _knows_presence(field)]
    if present:
        names = ", ".join(f'"{field.name}"' for field in present)
        body.append(f"    def HasField(self, name: Literal[{names}]) -> bool: ...")
    groups = [group.name for group in message.oneof_decl]
    for group in groups:
        body.append(f'    def WhichOneof(self, group: Literal["{group}"]) -> str | None: ...')
    return [f"class {message.name}(Message):", *(body or ["    pass"])]


def _knows_presence(field: Any) -> bool:
    one_message = field.type == Field.TYPE_MESSAGE and field.label != Field.LABEL_REPEATED
    return one_message or field.HasField("oneof_index")


def _enum(enum: Any) -> list[str]:
    return [f"    {value.name}: int" for value in enum.value]


def _types(field: Any, maps: dict[str, Any], package: str) -> tuple[str, str]:
    """The type that a field has when it is read, and what may be given for it."""
    many = field.label == Field.LABEL_REPEATED
    if field.type != Field.TYPE_MESSAGE:
        scalar = SCALARS[field.type]
        return (f"MutableSequence[{scalar}]", f"Iterable[{scalar}]") if many else (scalar, scalar)
    name = field.type_name.removeprefix(f".{package}.")
    entry = maps.get(name.rpartition(".")[2])
    if entry is not None:
        key, _ = _types(entry.field[0], {}, package)
        value, _ = _types(entry.field[1], {}, package)
        holds = "MessageMap" if entry.field[1].type == Field.TYPE_MESSAGE else "dict"
        return f"{holds}[{key}, {value}]", f"Mapping[{key}, {value}]"
    return (f"Messages[{name}]", f"Iterable[{name}]") if many else (name, name)


def main() -> int:
    """Write, or with --check compare; 1 if something differs."""
    differs = 0
    for proto in sorted(PROTOS.glob("*.proto")):
        data = compiled(proto)
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(data).file
        text = subprocess.run(
            ["ruff", "format", "--stdin-filename", str(proto.with_suffix(".pyi")), "-"],
            input=stubs(proto, file), capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for suffix, content in ((".binpb", data), (".pyi", text.encode())):
            target = proto.with_suffix(suffix)
            if target.exists() and target.read_bytes() == content:
                continue
            differs = 1
            print(f"{target.name} {'differs' if '--check' in sys.argv else 'written'}")
            if "--check" not in sys.argv:
                target.write_bytes(content)
    return differs if "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
