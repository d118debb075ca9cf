"""A Hugging Face tokenizer: as the file that the library `tokenizers` reads, and what it says of a text."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np

from .converter import NotConverted, Refused
from .frames import Array

KNOWN = ("input_ids", "attention_mask", "token_type_ids")
EXAMPLE_LENGTH = 12
MOST = 512
"""Tokens, where neither the tokenizer nor the network has a bound."""
WHITE_PLACES = (*range(9, 14), 32, 133, 160, 5760, *range(8192, 8203), 8232, 8233, 8239, 8287, 12288)
WHITE = "".join(map(chr, WHITE_PLACES))
"""What Unicode calls white space."""


class Tokenizer:
    """The folder's own tokenizer, fast or made so."""

    def __init__(self, transformers: Any, folder: Path, config: Any, model: Any) -> None:
        try:
            own = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as problem:  # of transformers, tokenizers or sentencepiece
            first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise Refused(
                f"its tokenizer cannot be read: {first[:300]}",
                "a text classifier's folder has tokenizer.json, or vocab.txt with tokenizer_config.json",
            ) from problem
        backend = getattr(own, "backend_tokenizer", None)
        if backend is None:
            raise NotConverted(
                f"its tokenizer ({type(own).__name__}) is Python code that has no tokenizer.json",
                "--recipe raw packs the network alone: token ids in, logits out",
            )
        self.own = own
        takes = inspect.signature(model.forward).parameters
        self.max_length = _max_length(own, config, model)
        self._backend = backend
        self._steps = word_steps(json.loads(self.file().tobytes()), self.max_length)
        known = KNOWN[:1] if self._steps else KNOWN
        self.inputs = [name for name in known if name in own.model_input_names and name in takes]

    def file(self) -> Array:
        """tokenizer.json, uint8[bytes], without truncation and padding, which the bundle says itself."""
        self._backend.no_truncation()
        self._backend.no_padding()
        return np.frombuffer(self._backend.to_str().encode(), np.uint8)

    def tokens(self, text: str) -> dict[str, Array]:
        """What the network gets of a text: int64[length] for each input."""
        made = self.own(text, truncation=True, max_length=self.max_length, return_tensors="np")
        return {name: np.asarray(made[name][0], np.int64) for name in self.inputs}

    def declared(self) -> dict[str, Any]:
        """What the bundle has to say of the tokenizer, and words that it knows."""
        return {
            "name": type(self.own).__name__,
            "steps": self._steps,
            "max_length": self.max_length,
            "pad_token": self.own.pad_token or "",
            "words": self._words(),
        }

    def example(self) -> list[Array]:
        """Two rows of tokens for exporting, the second of them padded."""
        ids = np.arange(2 * EXAMPLE_LENGTH).reshape(2, EXAMPLE_LENGTH) % max(2, len(self.own) - 1)
        mask = np.ones((2, EXAMPLE_LENGTH), np.int64)
        mask[1, EXAMPLE_LENGTH - 3 :] = 0
        made = {"input_ids": ids.astype(np.int64), "attention_mask": mask}
        made["token_type_ids"] = np.zeros_like(mask)
        return [made[name] for name in self.inputs]

    def _words(self) -> list[str]:
        """Some whole words of the vocabulary, the same each time: texts are made up of them."""
        special = set(self.own.all_special_tokens)
        known = sorted(
            (index, token) for token, index in self.own.get_vocab().items() if token not in special
        )
        plain = [token.lstrip("Ġ▁") for _, token in known if not token.startswith("##")]
        words = [word for word in plain if word.isascii() and word.isalpha() and len(word) > 2]
        return words[:: max(1, len(words) // 200)][:200]


def word_steps(told: dict[str, Any], max_length: int) -> list[dict[str, Any]] | None:
    """The steps that do what a tokenizer.json says, where it cuts at white space and looks words up.

    A mask is not made: a text alone has none of its tokens masked. None where the graph has no operators
    for it.
    """
    model, cut, case = told.get("model") or {}, told.get("pre_tokenizer") or {}, told.get("normalizer")
    vocabulary = model.get("vocab")
    if model.get("type") != "WordLevel" or cut.get("type") != "WhitespaceSplit" or not vocabulary:
        return None
    if case is not None and case.get("type") != "Lowercase":
        return None
    around = _around(told.get("post_processor"), vocabulary)
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    numbered = [vocabulary[word] for word in words] == list(range(len(words)))
    if around is None or not numbered or model.get("unk_token") not in vocabulary:
        return None
    steps: list[dict[str, Any]] = [{"lower": {}}] if case is not None else []
    steps.append({"split": {"separators": WHITE}})
    steps.append({"vocabulary": {"words": words, "unknown": vocabulary[model["unk_token"]]}})
    steps.append({"truncate": {"size": max_length - len(around)}})
    return [*steps, {"surround": around}] if around else steps


def _around(told: dict[str, Any] | None, vocabulary: dict[str, int]) -> dict[str, int] | None:
    """The tokens before and behind the words, as `surround` has them; None where there is more to it."""
    if told is None:
        return {}
    if told.get("type") != "TemplateProcessing":
        return None
    made: dict[str, int] = {}
    kinds = [next(iter(each.items())) for each in told.get("single", ())]
    places = [kind for kind, _ in kinds]
    if places.count("Sequence") != 1 or len(places) > 3 or any(each["type_id"] for _, each in kinds):
        return None
    at = places.index("Sequence")
    if at > 1 or len(places) - at > 2:
        return None
    for side, (kind, each) in (("begin", kinds[0]), ("end", kinds[-1])):
        if kind == "SpecialToken":
            if each["id"] not in vocabulary:
                return None
            made[side] = vocabulary[each["id"]]
    return made


def _max_length(own: Any, config: Any, model: Any) -> int:
    """Tokens of the longest text: what the tokenizer says and what the network has positions for."""
    bounds = [MOST]
    said = int(min(own.model_max_length, 1 << 30))
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from behind the padding token's number on.
        for module in model.modules():
            padded = getattr(module, "position_embeddings", None)
            index = getattr(padded, "padding_idx", None)
            if index is not None:
                positions -= int(index) + 1
                break
        bounds = [positions]
    if said < 1 << 20:
        bounds.append(said)
    return min(bounds)
