"""The model card of a version that a search wrote: its number, and its variants, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.optimize.card import BEGIN, card_of

from .networks import packed


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed(tmp_path_factory.mktemp("card"))


FIGURES = {
    "title": "static int8",
    "figures": {"ratio": {"value": 0.5, "low": 0.4, "high": 0.6}},
    "judgement": {"metric": "accuracy", "loss": 0.25, "low": -1.0, "high": 1.5},
}


def test_the_card_has_the_version_and_its_variants_once(start: Bundle, tmp_path: Path) -> None:
    before = start.read("README.md").decode()
    first = Variant("eight", "net.onnx", FIGURES, machine="x86_64-avx2", chosen=True)
    second = Variant("plain", "net.onnx", {})
    files = card_of(start, "2", (first, second))
    new = start.derive(tmp_path / "2", files, version="2", variants=(first, second))
    card = new.read("README.md").decode()
    assert card.startswith("# colours 2\n") and before.startswith("# colours 1\n")
    assert card[len("# colours 2\n") :].startswith(before[len("# colours 1\n") :].rstrip())
    assert (
        "- `eight`: static int8, chosen for x86_64-avx2, on onnxruntime, 0.50 of the packed network's "
        "latency (0.40 to 0.60), 0.25 points of accuracy lost (-1.00 to 1.50)\n"
        "- `plain`, of any machine, with `--variant` alone, on onnxruntime\n"
    ) in card
    again = card_of(new, "3", (second,))["README.md"]
    assert again is not None
    assert again.decode().count(BEGIN) == 1 and b"`eight`" not in again and again.startswith(b"# colours 3\n")


def test_a_card_of_one_s_own_keeps_its_head_and_none_is_made(start: Bundle, tmp_path: Path) -> None:
    own = start.derive(tmp_path / "2", {"README.md": b"# Mine\n\nBy me.\n"}, version="2")
    card = card_of(own, "3", ())["README.md"]
    assert card is not None and card.startswith(b"# Mine\n\nBy me.\n")
    none = start.derive(tmp_path / "3", {"README.md": None}, version="3")
    assert card_of(none, "4", ()) == {}
