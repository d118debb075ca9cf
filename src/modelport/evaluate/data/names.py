"""Which of the model's classes a word of the data means: by name, whatever its spelling, or by index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ...errors import InputError, UsageError, did_you_mean
from .item import Word, some

_SEPARATORS = re.compile(r"[\s_\-]+")
_WORDNET = re.compile(r"n\d{8}[ _]+(?=\S)")


def normal(name: str) -> str:
    """A name without case, underscores, hyphens and a WordNet number before it."""
    return _SEPARATORS.sub(" ", _WORDNET.sub("", name.strip())).strip().lower()


class Classes:
    """The model's classes, found by what the data calls them.

    A label of several names, `tench, Tinca tinca`, is found by each of them; a name that several labels
    have means any of these.
    """

    def __init__(self, labels: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
        """
        Args:
            labels: the model's, index by index; none where it has none.
            renamed: the data's name -> the model's name; "" for a class that is to be left out.

        Raises:
            UsageError: `renamed` has a name that the model does not have.
        """
        self.labels = tuple(labels)
        self._whole: dict[str, list[int]] = {}
        self._part: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            self._whole.setdefault(normal(label), []).append(index)
            for part in dict.fromkeys(normal(part) for part in label.split(",")):
                self._part.setdefault(part, []).append(index)
        self._renamed = {normal(name): target for name, target in (renamed or {}).items()}
        for name, target in (renamed or {}).items():
            if target and self._named(target) is None and self._index(target) is None:
                raise UsageError(
                    f"--map {name}={target}: the model has no class {target!r}",
                    hint=did_you_mean(target, self.labels, otherwise=""),
                )

    def left_out(self, word: Word) -> bool:
        """Whether `renamed` leaves this class out."""
        return self._renamed.get(normal(str(word))) == ""

    def find(self, word: Word) -> tuple[int, ...] | None:
        """The indices that `word` means; None where the model has no such class."""
        text = self._renamed.get(normal(str(word)), word)
        found = self._named(str(text))
        return self._index(text) if found is None else found

    def find_all(self, words: Iterable[Word], what: str = "classes") -> dict[Word, tuple[int, ...]]:
        """Each word's indices; those that are left out have none.

        Raises:
            InputError: words that the model has no class for; all of them are named.
        """
        distinct = dict.fromkeys(words)
        found = {word: () if self.left_out(word) else self.find(word) for word in distinct}
        missing = [str(word) for word, indices in found.items() if indices is None]
        if missing:
            near = did_you_mean(missing[0], self.labels, otherwise="") if self.labels else ""
            known = (
                f"it has {some([repr(label) for label in self.labels], 3)}"
                if self.labels
                else "the bundle has no labels"
            )
            hints = [
                near,
                "--map DATA=MODEL names the model's class (or its index), --map DATA= leaves it out",
            ]
            raise InputError(
                f"the model has no class for {len(missing)} of the data's {len(distinct)} {what}: "
                f"{some(missing, 10)}; {known}",
                hint="; ".join(hint for hint in hints if hint),
            )
        return {word: indices for word, indices in found.items() if indices is not None}

    def _named(self, name: str) -> tuple[int, ...] | None:
        key = normal(name)
        for table in (self._whole, self._part):
            if key in table:
                return tuple(table[key])
        # `tench, Tinca tinca` in the data for `tench` in the model.
        parts = {index for part in name.split(",") for index in self._part.get(normal(part), ())}
        return tuple(sorted(parts)) if "," in name and parts else None

    def _index(self, word: Word) -> tuple[int, ...] | None:
        try:
            index = int(word) if isinstance(word, str | int) else int(word) if word == int(word) else -1
        except (ValueError, OverflowError):
            return None
        if index < 0 or (self.labels and index >= len(self.labels)):
            return None
        return (index,)
