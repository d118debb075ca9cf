"""Replies of the short path: what every one of them says, and refusals."""

from __future__ import annotations

from ..engine.model import LiveModel
from ..engine.submission import Result
from ..errors import ModelportError
from .exchange import Exchange, Told
from .refusal import refusal


def told(model: LiveModel, result: Result) -> Told:
    """What logs and traces say of an answer."""
    group = result.group
    stages = {
        "queue": result.queued,
        "decode": group.decode,
        "pre": group.pre,
        "net": group.net,
        "post": group.post,
    }
    return Told(model.name, model.version, result.run.rows, {name: s for name, s in stages.items() if s})


def refuse(exchange: Exchange, problem: Exception) -> None:
    """The reply to what went wrong."""
    if not isinstance(problem, ModelportError):
        raise problem
    asked = f"{exchange.method.decode('latin-1')} {exchange.path.decode('latin-1')}"
    status, words, headers = refusal(problem, asked)
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in headers.items())
    exchange.reply_json(status, {"error": words}, lines)
