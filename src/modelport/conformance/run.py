"""Runs the checks one after the other; what each says becomes a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ..errors import UsageError
from .checks import basics, binary, datatypes, errors, extensions, grpc, infer, limits, transport
from .rpc import Refusal
from .subject import Subject
from .verdict import ALL, PARTS, Check, NotOffered, Verdict, Wrong

_MODULES = (basics, infer, datatypes, errors, limits, transport, binary, extensions, grpc)
"""Importing them registers their checks."""


def chosen(only: Sequence[str]) -> list[Check]:
    """The checks of parts, of groups or by their names; all without any.

    Raises:
        UsageError: a word that is none of these.
    """
    order = list(PARTS)
    ranked = sorted(ALL, key=lambda check: order.index(check.part))
    if not only:
        return ranked
    words = [word.lower() for word in only]
    known = {word for check in ALL for word in _words(check)}
    for word in words:
        if word not in known:
            raise UsageError(
                f"--only {word!r} is no part", hint=", ".join([*dict.fromkeys(PARTS.values()), *PARTS])
            )
    return [check for check in ranked if _words(check) & set(words)]


def run(
    subject: Subject, checks: Sequence[Check], revive: Callable[[], None] | None = None
) -> Iterator[Verdict]:
    """A verdict for each check, in order.

    Args:
        revive: called where the server is gone after a check, so that the others are judged fairly;
            without it they all fail, and say since when it is gone.
    """
    gone = ""
    for check in checks:
        if gone:
            yield Verdict(check, "fail", f"not run: the server is gone since {gone}", check.weight)
            continue
        verdict = judge(check, partial(check.call, subject))
        if verdict.outcome == "fail" and not _there(subject):
            verdict = Verdict(check, "fail", f"the server is gone after this ({verdict.reason})", "must")
            if revive:
                revive()
            else:
                gone = check.name
        yield verdict


def _there(subject: Subject) -> bool:
    """Whether it takes connections; one that is on its way out is given a moment to go."""
    time.sleep(0.2)
    try:
        subject.link.connect().close()
    except Wrong:
        return False
    return True


def judge(check: Check, call: Callable[[], None]) -> Verdict:
    """What a check's call says. A server's odd reply that no check foresaw counts as wrong too."""
    try:
        call()
    except NotOffered as problem:
        return Verdict(check, "not offered", str(problem), check.weight)
    except Wrong as problem:
        weight = "should" if problem.should else check.weight
        return Verdict(check, "fail", str(problem)[:400], weight)
    except Refusal as problem:
        return Verdict(check, "fail", f"expected OK, got {problem}"[:400], check.weight)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as problem:
        reason = f"the reply has another form than expected ({type(problem).__name__}: {problem})"
        return Verdict(check, "fail", reason[:400], check.weight)
    return Verdict(check, "pass", "", check.weight)


def _words(check: Check) -> set[str]:
    return {check.part.lower(), PARTS[check.part].lower(), check.name.lower()}
