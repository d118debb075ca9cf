"""What a front end says of an answer beside the answer: who gave it, and where its time went."""

from __future__ import annotations

import msgspec

from .submission import Result


class Told(msgspec.Struct, frozen=True):
    """Which model answered a request, and how."""

    model: str
    version: str
    batch: int = 0
    """Rows that ran together with it, itself included."""
    stages: dict[str, float] = {}
    """Seconds by stage; stages that did not happen are left out."""
    seconds: float = 0.0
    """From submission to result."""


def told(name: str, version: str, result: Result) -> Told:
    """What there is to say of an answer that one version of a model gave."""
    group = result.group
    stages = {
        "queue": result.queued,
        "decode": group.decode,
        "pre": group.pre,
        "net": group.net,
        "post": group.post,
    }
    happened = {stage: seconds for stage, seconds in stages.items() if seconds}
    return Told(name, version, result.run.rows, happened, result.seconds)
