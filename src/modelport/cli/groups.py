"""Options of a verb under headings, for verbs with many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Grouped(click.Command):
    """A command whose help lists its options under the headings of `groups`; the rest come last.

    Args:
        groups: heading -> the options' names, as in the function's parameters.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        known = {parameter.name for parameter in self.params}
        unknown = [name for names in groups.values() for name in names if name not in known]
        assert not unknown, f"no such options: {unknown}"
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        told = {option.name: option.get_help_record(ctx) for option in options}
        grouped = {name for names in self._groups.values() for name in names}
        rest = [name for name in told if name not in grouped]
        for heading, names in {**self._groups, "Other options": rest}.items():
            records = [record for name in names if (record := told[name]) is not None]
            with formatter.section(heading):
                formatter.write_dl(records, col_max=26)
