"""Where a request's time went, on its reply: the header `Server-Timing`, whichever dialect answered."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..engine.caller import Caller, caller
from ..engine.told import Told

_STAGES = ("decode", "pre", "queue", "net", "post")


def server_timing(told: Told) -> str:
    """The header's value: milliseconds by stage and in all, and how many rows ran together."""
    stages = ", ".join(f"{stage};dur={told.stages.get(stage, 0.0) * 1e3:.3f}" for stage in _STAGES)
    return f"{stages}, total;dur={told.seconds * 1e3:.3f}, batch;desc={told.batch}"


class TellTiming:
    """Adds `Server-Timing` to the reply of each request that a model answered.

    Of a request of several items it is that of the one that took longest: they run side by side. What an
    endpoint says of stages of its own is kept behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asking = scope.get("state", {}).get("exchange")
        if asking is None:  # served by another ASGI server than ours
            client = scope.get("client")
            asking = Caller(Headers(scope=scope), client[0] if client else "")
            caller.set(asking)

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start" and asking.told is not None and asking.told.batch:
                headers = MutableHeaders(scope=message)
                own = headers.get("Server-Timing")
                line = server_timing(asking.told)
                headers["Server-Timing"] = f"{line}, {own}" if own else line
            await send(message)

        await self.app(scope, receive, send_timed)
