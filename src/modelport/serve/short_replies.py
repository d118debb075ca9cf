"""Refusals as replies, past the application."""

from __future__ import annotations

from ..errors import ModelportError
from .exchange import Exchange
from .refusal import refusal


def refuse(exchange: Exchange, problem: Exception) -> None:
    """The reply to what went wrong."""
    if not isinstance(problem, ModelportError):
        raise problem
    asked = f"{exchange.method.decode('latin-1')} {exchange.path.decode('latin-1')}"
    status, words, headers = refusal(problem, asked)
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in headers.items())
    exchange.reply_json(status, {"error": words}, lines)
