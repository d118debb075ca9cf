"""A network made smaller three ways, and each compared with the network as it was.

    python compress.py --data DIR -o out

trains a network on the pictures of DIR (README.md beside this folder says in which form), then makes of it

    pruned    fewer channels, in rounds with training in between      channels.py
    sparse    most weights zero, likewise                             weights.py
    student   a smaller network that learns from the first            training.py

packs all four as bundles in out/repo, asks each about every test picture, and prints the table. What is in
`out` already is not made again: an interrupted run goes on, and --only says what to make.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import comparison

NEEDS = {
    "torch": "pip install 'modelport[torch,evaluate]'",
    "onnxscript": "pip install 'modelport[torch,evaluate]'",
    "torch_pruning": "pip install torch-pruning",
}
"""Modules, and what brings them."""


def main() -> None:
    args, pictures = comparison.begun("Make a PyTorch network smaller, and compare.", NEEDS)
    from recipe import run  # imports PyTorch, which --help does without

    run(args, pictures)


if __name__ == "__main__":
    main()
