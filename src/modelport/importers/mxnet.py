"""MXNet's networks: a symbol (`-symbol.json`) and its parameters (`-0000.params`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .pair import Kind, PairImporter, find_pair, head_of

HEAD = 4096
PARAMETERS_MAGIC = b"\x12\x01" + b"\0" * 14
"""A list of arrays: the number 0x112, and a reserved one."""
EPOCH = re.compile(r"-\d{4}$")
SYMBOL = "-symbol"


def is_symbol(path: Path) -> bool:
    """Whether a file is the JSON of a symbol."""
    head = head_of(path, HEAD).lstrip()
    if not re.match(rb'\{\s*"(nodes|arg_nodes|attrs|heads|node_row_ptr)"\s*:', head):
        return False
    return bool(re.search(rb'"nodes"\s*:\s*\[', head) and re.search(rb'"op"\s*:\s*"', head)) or (
        head.startswith(b'{"arg_nodes"')
    )


def is_parameters(path: Path) -> bool:
    """Whether a file is a list of MXNet's arrays."""
    return head_of(path, 16) == PARAMETERS_MAGIC


def _parameters_of(symbol: Path) -> Sequence[str]:
    stem = symbol.stem.removesuffix(SYMBOL)
    return (f"{stem}-*.params", f"{stem}.params")


def _symbols_of(parameters: Path) -> Sequence[str]:
    stem = EPOCH.sub("", parameters.stem)
    return (f"{stem}{SYMBOL}.json", f"{stem}.json")


KIND = Kind(
    network="an MXNet symbol",
    weights="a file of MXNet's parameters",
    is_network=is_symbol,
    is_weights=is_parameters,
    weights_of=_parameters_of,
    network_of=_symbols_of,
)


class MXNetImporter(PairImporter):
    """Converted by MXNet's own exporter; compared with its executor."""

    environment = "mxnet"
    converter = "mxnet_symbol"
    what = "an MXNet network"
    kind = KIND

    def question(self, path: Path) -> dict[str, Any]:
        """Where the two files are; of several epochs the last.

        Raises:
            NotFound: one is missing. UsageError: a folder of several. InputError: not such a file.
        """
        symbol, weights = find_pair(KIND, path, self.options.weights)
        return {"symbol": str(symbol.resolve()), "weights": str(weights.resolve())}
