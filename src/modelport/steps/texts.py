"""One text from bytes, and the declared host step that cuts it into tokens where the graph cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bundle.columns import TEXT, TOKENS
from ..bundle.manifest import Decode
from ..errors import BundleError, InputError, TooLarge, Unsupported
from ..tensors import Array, Tensors, object_array

_INSTALL = 'pip install "modelport[text]"'


def decode_text(data: bytes | str, decode: Decode) -> dict[str, Array]:
    """UTF-8 bytes (a byte order mark is dropped) to `text`: string [1].

    Raises:
        TooLarge: over the bundle's `max_bytes`. InputError: not UTF-8, or with a NUL character.
    """
    try:
        if isinstance(data, str):
            data = data.encode()
        if len(data) > decode.max_bytes:
            raise TooLarge(f"{len(data)} bytes of text; at most {decode.max_bytes} are read")
        text = data.decode("utf-8-sig")
    except UnicodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}", hint="save the text as UTF-8") from problem
    if "\0" in text:
        raise InputError("a text with a NUL character")
    return {TEXT.name: object_array([text], (1,))}


class Tokenizer:
    """A bundle's tokenizer, loaded: texts to `input_ids`, `attention_mask`, `token_type_ids`. Thread safe."""

    def __init__(self, data: bytes, decode: Decode, names: Sequence[str]) -> None:
        """Load `tokenizer.json`.

        Args:
            data: the file.
            decode: the bundle's `decode`.
            names: which of the three are wanted.

        Raises:
            Unsupported: the library `tokenizers` is not installed. BundleError: no such file.
        """
        try:
            import tokenizers
        except ImportError as problem:
            raise Unsupported(
                f"the bundle cuts texts into tokens with the library tokenizers ({problem})", hint=_INSTALL
            ) from problem
        try:
            made: Any = tokenizers.Tokenizer.from_str(data.decode())
        except Exception as problem:  # the library raises Exception itself
            raise BundleError(f"no tokenizer: {problem}", at=decode.tokenizer) from problem
        made.enable_truncation(decode.max_length)
        made.no_padding()
        if decode.padding == "max_length":
            pad = made.token_to_id(decode.pad_token)
            if pad is None:
                raise BundleError(
                    f"the tokenizer has no token {decode.pad_token!r} to fill up with",
                    at="$.decode.pad_token",
                )
            made.enable_padding(length=decode.max_length, pad_id=pad, pad_token=decode.pad_token)
        self._tokenizer = made
        self._names = [name for name in TOKENS if name in names]

    def tokens(self, text: Tensors) -> dict[str, Array]:
        """`text` as `decode_text` gives it -> the tokens, each int64 [length]."""
        found = self._tokenizer.encode(str(text[TEXT.name][0]))
        lists = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        return {name: np.array(lists[name], np.int64) for name in self._names}
