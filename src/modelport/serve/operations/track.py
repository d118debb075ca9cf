"""`/track`: sessions that follow the objects of a video."""

from __future__ import annotations

from ...engine.model import Timing
from ..track_session import Wishes
from .build import (
    ANYTHING,
    BODY,
    COMPUTE,
    COUNT,
    KEYED,
    MODEL,
    NUMBER,
    TEXT,
    TIMED,
    TIMEOUT,
    Fragment,
    Operations,
    Tables,
    answers,
    array,
    operation,
    query,
    ref,
    refuses,
    struct,
    takes,
)

TAG = "Track"

_COUNTS = {"type": "object", "description": "By name, then by label."}
_SEEN = {
    "frames": COUNT,
    "seconds": NUMBER,
    "tracks": COUNT,
    "labels": {"type": "object", "additionalProperties": COUNT},
    "lines": _COUNTS,
    "zones": _COUNTS,
    "events": array(ref("TrackEvent")),
}
SCHEMAS: Fragment = {
    "TrackSession": struct({"session": TEXT, "url": TEXT, "model": TEXT, "version": TEXT}),
    "TrackEvent": struct({"event": TEXT, "frame": COUNT, "seconds": NUMBER, "track": COUNT, "label": TEXT}),
    "Tracked": struct(
        {
            "type": {"const": "tracks"},
            "frame": COUNT,
            "seconds": NUMBER,
            "model": TEXT,
            "version": TEXT,
            "tracks": array({"allOf": [ref("Detection"), struct({"track": COUNT})]}),
            "events": array(ref("TrackEvent")),
            "dropped": COUNT,
            "timing_ms": Timing,
        },
        trails=ANYTHING,
    ),
    "TrackSummary": struct(
        {"type": {"const": "summary"}, "model": TEXT, "received": COUNT, "dropped": COUNT}, **_SEEN
    ),
}
_VERSION = query("version", "The version that answers; by default the model's default.")
_PICTURE = takes("A picture's file.", binary=None, png=None, jpeg=None)
_NO_SESSION = {404: "No such model or session: it is over, was idle, or lives in another process."}
_INSTALLED = (501,)

_OPERATIONS: Operations = {
    "GET /track/{name}": operation(
        "Follow objects over a WebSocket",
        TAG,
        {101: {"description": "A WebSocket: pictures as binary messages, wishes (JSON) as text."}},
        refuses(
            400,
            *KEYED,
            *MODEL,
            *_INSTALLED,
            also={426: "No handshake; POST does without."},
        ),
        parameters=(_VERSION,),
        description="Each picture is answered with a Tracked. A picture that waits while a newer comes is "
        'dropped and counted, unless `{"order": "all"}` was said.',
    ),
    "POST /track/{name}": operation(
        "Begin a session of one picture a request",
        TAG,
        answers(ref("TrackSession"), "The session.", status=201, Location="The session."),
        refuses(*BODY, *KEYED, *MODEL, *_INSTALLED),
        body=takes("What is asked of the session; it may be left out.", required=False, json=Wishes),
        parameters=(_VERSION,),
    ),
    "POST /track/{name}/sessions/{session}": operation(
        "Follow the objects of the next picture",
        TAG,
        answers(ref("Tracked"), Server_Timing=TIMED),
        refuses(*BODY, *KEYED, *MODEL, *COMPUTE, also=_NO_SESSION),
        body=_PICTURE,
        parameters=(TIMEOUT, query("seconds", "The picture's time.", {"type": "number", "minimum": 0})),
    ),
    "GET /track/{name}/sessions/{session}": operation(
        "What a session has seen", TAG, answers(ref("TrackSummary")), refuses(*KEYED, also=_NO_SESSION)
    ),
    "DELETE /track/{name}/sessions/{session}": operation(
        "End a session", TAG, answers(ref("TrackSummary")), refuses(*KEYED, also=_NO_SESSION)
    ),
}
TABLES: Tables = {"track": _OPERATIONS}
