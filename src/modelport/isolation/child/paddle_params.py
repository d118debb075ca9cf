"""What a PaddlePaddle program needs in parameters, and what its parameters' file holds: read without it.

The file is tensors one after another, without names, in the order of their names in the program. PaddlePaddle
reads whatever fits; a file of another network is told here.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from .converter import Refused

Shape = tuple[int, ...]
Parameter = tuple[str, Shape]

PROGRAM = "program"
ITEM_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}
"""VarType.Type in framework.proto -> bytes for one number."""
MAX_DESCRIPTION = 1 << 16


def program_of(name: str, text: bytes) -> dict[str, Any]:
    """The program in a PIR file.

    Raises:
        Refused: it is no whole JSON, or holds no program.
    """
    try:
        held = json.loads(text)
        program = held[PROGRAM]
        program["regions"][0]["blocks"][0]["ops"][0]["#"]
    except (ValueError, RecursionError) as problem:
        raise Refused(f"{name} is cut short or damaged: {problem}") from problem
    except (KeyError, IndexError, TypeError) as problem:
        raise Refused(f"{name} holds no program of PaddlePaddle") from problem
    return dict(program)


def operations(part: Any) -> Iterator[dict[str, Any]]:
    """Every operation of a PIR program, those inside of others as well."""
    for region in part.get("regions", ()):
        for block in region.get("blocks", ()):
            for operation in block.get("ops", ()):
                yield operation
                yield from operations(operation)


def parameters_of(program: dict[str, Any]) -> list[Parameter]:
    """The parameters of a PIR program, in the order of the file.

    Raises:
        Refused: a parameter is not described as PaddlePaddle does.
    """
    try:
        found = [
            (str(each["A"][3]), tuple(int(size) for size in each["O"]["TT"]["D"][1]))
            for each in operations(program)
            if each.get("#") == "p" and each["OA"][0]  # what is not kept in files says 0 there
        ]
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise Refused(f"a parameter of the program is described in no known way: {problem}") from problem
    return sorted(found)


def held_in(name: str, data: bytes) -> list[Shape]:
    """The shapes of the tensors in a parameters' file.

    Raises:
        Refused: it is cut short, or no such file.
    """
    shapes: list[Shape] = []
    at = 0
    while at < len(data):
        try:
            shape, at = _tensor(data, at)
        except (struct.error, IndexError, KeyError, ValueError) as problem:
            raise Refused(
                f"{name} cannot be read behind its tensor {len(shapes)}: no parameters of PaddlePaddle"
            ) from problem
        if at > len(data):
            raise Refused(
                f"{name} is cut short: {at - len(data)} bytes of its tensor {len(shapes) + 1} are missing"
            )
        shapes.append(shape)
    return shapes


def compare(program: str, needed: list[Parameter], weights: str, held: list[Shape]) -> None:
    """That a parameters' file is the program's.

    Raises:
        Refused: it is of another program.
    """
    hint = "give the two files that were saved together"
    if len(held) != len(needed):
        raise Refused(
            f"{weights} is not of {program}: it holds {len(held)} tensors, and the network has {len(needed)}",
            hint,
        )
    for (name, shape), found in zip(needed, held, strict=True):
        if shape != found:
            raise Refused(
                f"{weights} is not of {program}: its tensor for {name!r} is {list(found)}, and the network's "
                f"is {list(shape)}",
                hint,
            )


def _tensor(data: bytes, at: int) -> tuple[Shape, int]:
    """One tensor's shape, and where the next begins."""
    version, levels = struct.unpack_from("<IQ", data, at)
    at += 12
    if version or levels > 8:
        raise ValueError("not a tensor")
    for _ in range(levels):
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + size
    version, size = struct.unpack_from("<Ii", data, at)
    at += 8
    if version or not 0 <= size <= MAX_DESCRIPTION:
        raise ValueError("not a tensor")
    kind, shape = _description(data[at : at + size])
    return shape, at + size + math.prod(shape) * ITEM_BYTES[kind]


def _description(message: bytes) -> tuple[int, Shape]:
    """Of a TensorDesc (protobuf): its data type and its dims, packed or not."""
    kind, dims, at = -1, [], 0
    while at < len(message):
        tag, at = _number(message, at)
        value, at = _number(message, at)
        if tag == 0x08:
            kind = value
        elif tag == 0x10:
            dims.append(value)
        elif tag == 0x12:
            end = at + value
            while at < end:
                value, at = _number(message, at)
                dims.append(value)
        else:
            raise ValueError("not a description of a tensor")
    return kind, tuple(dims)


def _number(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("not a number")
