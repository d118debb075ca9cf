"""`modelport rollout`: which version of a model answers whom, seen and changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..rollout.change import describe
from ..rollout.report import Report, Seen
from ..rollout.wanted import Wanted
from .render import console, facts, grid, json_option, write_json
from .rollout_places import Folder, Place, Server

SHOWN_HISTORY = 10

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(text: Any) -> float:
    """`30s`, `10m`, `1h`, or a number of seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?", str(text).strip())
    if found is None:
        raise click.BadParameter(f"expected a duration such as 30s, 10m or 1h, got {text!r}")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _weights(text: Any) -> tuple[float, ...]:
    """`0.05,0.25,1`: rising shares of the requests; a project file may have a list."""
    parts = text if isinstance(text, list | tuple) else str(text).split(",")
    try:
        return tuple(_number(part) for part in parts)
    except (TypeError, ValueError) as problem:
        raise click.BadParameter(f"expected weights such as 0.05,0.25,1, got {text!r}") from problem


def _share(value: Any) -> float:
    """`0.1` or `10%`. A whole number above 1 is a percentage without its sign; what else is out of range is
    refused with the plan.
    """
    try:
        share = _number(value)
    except (TypeError, ValueError) as problem:
        raise click.BadParameter(f"expected a share such as 0.1 or 10%, got {value!r}") from problem
    if 2 <= share <= 100:
        raise click.BadParameter(f"{value} is more than all requests; did you mean {share:g}%?")
    return share


def _number(value: Any) -> float:
    text = str(value).strip()
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(value)


Command = Callable[..., int]

_POLICY_OPTIONS: list[tuple[str, Callable[[Any], Any], str, str]] = [
    ("--steps", _weights, "WEIGHTS", "The canary's weights, one after the other. [default: 0.05,0.25,1]"),
    ("--min-requests", int, "COUNT", "Requests at each step before it moves up. [default: 500]"),
    ("--min-duration", _duration, "DURATION", "Time at each step before it moves up. [default: 5m]"),
    ("--window", _duration, "DURATION", "What is older no longer counts. [default: 1h]"),
    ("--max-error-difference", float, "RATE", "How much higher its error rate may be. [default: 0.01]"),
    ("--max-p99-ratio", float, "TIMES", "Its p99 latency over the stable one's; 0: any. [default: 1.5]"),
    ("--min-agreement", float, "SHARE", "Shadowed requests with the same labels; 0: any. [default: any]"),
    ("--max-difference", float, "NUMBER", "How far off a number may ever be; -1: any. [default: any]"),
    ("--confidence", float, "SHARE", "How sure each judgement has to be. [default: 0.95]"),
]


def _policy_options(function: Command) -> Command:
    """The flags of the policy; each is a field of `rollout.plan.Policy`."""
    for name, kind, metavar, text in reversed(_POLICY_OPTIONS):
        function = click.option(name, type=kind, metavar=metavar, help=text)(function)
    return function


@click.command()
@click.argument("model", type=click.Path())
@click.option("--stable", metavar="VERSION", help="The version that answers. [default: the newest other one]")
@click.option("--canary", metavar="VERSION", help="The version that answers a share of the requests.")
@click.option(
    "--weight", type=_share, metavar="SHARE", help="The canary's share of the requests: 0.1 or 10%."
)
@click.option(
    "--sticky",
    metavar="HEADER",
    help="One value of HEADER (or client-address) sees one version; '' for chance.",
)
@click.option("--header", metavar="'NAME: VALUE'", help="Requests with it go to the canary; '' for none.")
@click.option("--shadow", metavar="VERSION", help="The version that is asked too and compared; '' for none.")
@click.option(
    "--sample",
    type=_share,
    metavar="SHARE",
    help="Share of the stable version's requests that are shadowed: 0.1 or 10%.",
)
@click.option("--auto/--no-auto", default=None, help="Move the canary up, or drop it, by the policy below.")
@_policy_options
@click.option("--promote", is_flag=True, help="Make the canary (or the shadow) the stable version.")
@click.option("--rollback", is_flag=True, help="Drop the canary; without one, undo the last promotion.")
@click.option("--clear", is_flag=True, help="No plan: the newest version answers.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--url", help="Ask and change a running server at its --admin-port: http://127.0.0.1:8901")
@click.option("--key", help="The server's admin key, with --url.")
@json_option
def command(model: str, reason: str, url: str | None, key: str | None, as_json: bool, **options: Any) -> int:
    """Show or change which version of MODEL (REPO/NAME) answers whom.

    Without options it shows. A change is written to REPO/NAME/rollout.json, which a running server reads
    within a second or so; with --url the server itself is asked, which also shows what it has seen. Exit
    code 1: the last thing that happened is that the policy rolled back.
    """
    if key and not url:
        raise UsageError("--key is for a server", hint="--url http://127.0.0.1:8901")
    action = _action(options, _said())
    place: Place = Server(url, Path(model).name, key) if url else Folder.at(Path(model))
    if url and options["promote"] and action is not None and (said := _of_shadow(place.show())):
        click.echo(f"note: {said}", err=True)
    shown = place.show() if action is None else action(place, reason)
    if as_json:
        write_json(shown)
    else:
        _print(shown)
    return 1 if action is None and _was_dropped(shown) else 0


def _of_shadow(shown: Report) -> str:
    """How a shadow has answered that is to be promoted; empty where the candidate is a canary, or none is."""
    if shown.plan is None or shown.plan.canary is not None or shown.plan.shadow is None:
        return ""
    version = shown.plan.shadow.version
    row = next((row for row in shown.seen or () if row.version == version), None)
    if row is not None and row.agreement is not None:
        share = f"{row.agreement:.2%}"
        return f"version {version}, the shadow, had the stable version's labels in {share} of its answers"
    if row is not None and row.max_difference is not None:
        return f"the numbers of version {version}, the shadow, were off by up to {row.max_difference:.3g}"
    return f"no answer of version {version}, the shadow, was compared with the stable version's yet"


def _was_dropped(shown: Report) -> bool:
    """Whether the last thing that happened is that the policy rolled back."""
    last = shown.history[-1] if shown.history else None
    return last is not None and (last.did, last.by) == ("rollback", "policy")


def _said() -> set[str]:
    """The options that were given on the command line itself."""
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is source}


def _action(options: dict[str, Any], said: set[str]) -> Callable[[Place, str], Report] | None:
    """The one thing that the flags ask for; None where they ask for nothing but to see.

    Settings of a project file or the environment fill in a change that the command line asks for; by
    themselves they change nothing.

    Raises:
        UsageError: they ask for several.
    """
    policy = {
        field: limit
        for flag, (field, off) in _POLICY.items()
        if (limit := _limit(options[flag], off)) is not _UNSET
    }
    changed = {field: options[field] for field in _FIELDS if options[field] is not None}
    asked = [verb for verb in ("promote", "rollback", "clear") if options[verb] and verb in said]
    plans = bool(said.intersection((*_FIELDS, *_POLICY)))
    if len(asked) + plans > 1:
        named = [f"--{verb}" for verb in asked] + ["a change of the plan"] * plans
        raise UsageError(f"one thing at a time: {' or '.join(named)}")
    if plans:
        wanted = Wanted(**changed, policy=policy)
        return lambda place, reason: place.plan(wanted, reason)
    verbs: dict[str, Callable[[Place, str], Report]] = {
        "promote": lambda place, reason: place.promote(reason),
        "rollback": lambda place, reason: place.rollback(reason),
        "clear": lambda place, reason: place.clear(reason),
    }
    return verbs[asked[0]] if asked else None


_FIELDS = ("stable", "canary", "weight", "header", "sticky", "shadow", "sample", "auto")
_UNSET = object()
# Flag -> the policy's field, and the value of the flag that means: not judged.
_POLICY: dict[str, tuple[str, float | None]] = {
    "steps": ("steps", None),
    "min_requests": ("min_requests", None),
    "min_duration": ("min_seconds", None),
    "window": ("window", None),
    "max_error_difference": ("max_error_difference", None),
    "max_p99_ratio": ("max_p99_ratio", 0.0),
    "min_agreement": ("min_agreement", 0.0),
    "max_difference": ("max_difference", -1.0),
    "confidence": ("confidence", None),
}


def _limit(value: Any, off: float | None) -> Any:
    if value is None:
        return _UNSET
    return None if off is not None and value == off else value


def _print(shown: Report) -> None:
    out = console()
    rows = [
        ("versions", ", ".join(shown.versions)),
        ("plan", _plan(shown)),
        ("since", _time(shown.since) if shown.since else ""),
        ("policy", _policy(shown)),
        ("PROBLEM", shown.problem),
    ]
    out.print(facts(f"Rollout of {shown.model}", [row for row in rows if row[1]]))
    if shown.seen:
        out.print()
        header = ["version", "", "requests", "errors", "p50", "p99", "agreement", "largest difference"]
        out.print(grid(header, map(_seen, shown.seen)))
    if shown.last is not None:
        out.print()
        said = f"policy, {_time(shown.last.at)}: {shown.last.action}: {shown.last.reason}"
        out.print(said, markup=False, soft_wrap=True)
    if shown.history:
        out.print()
        lines = reversed(shown.history[-SHOWN_HISTORY:])
        cells = [[_time(one.at), one.by, one.did, one.what, one.reason] for one in lines]
        out.print(grid(["when", "by", "", "what", "why"], cells))


def _plan(shown: Report) -> str:
    if shown.plan is not None:
        return describe(shown.plan)
    if shown.default is not None:
        return f"none: version {shown.default} answers, which was set as the default"
    return "none: the newest version answers"


def _policy(shown: Report) -> str:
    policy = shown.plan.policy if shown.plan else None
    if policy is None:
        return ""
    limits = [
        f"steps {', '.join(f'{weight:g}' for weight in policy.steps)}",
        f"each {policy.min_requests:,} requests and {policy.min_seconds:g} s",
        f"errors at most {policy.max_error_difference:.2%} more",
    ]
    if policy.max_p99_ratio is not None:
        limits.append(f"p99 at most {policy.max_p99_ratio:g} times")
    if policy.min_agreement is not None:
        limits.append(f"agreement at least {policy.min_agreement:.2%}")
    if policy.max_difference is not None:
        limits.append(f"no number off by more than {policy.max_difference:g}")
    return "; ".join([*limits, f"confidence {policy.confidence:g}, window {policy.window:g} s"])


def _seen(row: Seen) -> list[str]:
    difference = "" if row.max_difference is None else f"{row.max_difference:.3g}"
    if row.unlike:
        difference += f", {row.unlike:,} not alike"
    return [
        row.version,
        row.role,
        f"{row.requests:,}",
        f"{row.errors:,}" + ("" if not row.error_rate else f" ({row.error_rate:.2%})"),
        _milliseconds(row.p50),
        _milliseconds(row.p99),
        "" if row.agreement is None else f"{row.agreement:.2%}",
        difference,
    ]


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3g} ms"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
