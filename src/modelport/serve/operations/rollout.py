"""Rollouts: which version of a model gets which share of its requests."""

from __future__ import annotations

from ...rollout.plan import Canary, Policy, Shadow
from ...rollout.report import Report
from .build import BODY, KEYED, TEXT, Operations, Tables, answers, header, operation, refuses, struct, takes

TAG = "Rollouts"

_IF_MATCH = header("If-Match", "The ETag last seen: refused if there is a newer one.")
_REPORT = answers(Report, "The rollout, as it is now.", ETag="The revision.")
_CHANGES = refuses(*BODY, *KEYED, 404, 409)
_CLOSED = {"additionalProperties": False}
_SAID = takes("Why, for the history.", json=struct(reason=TEXT) | _CLOSED)
_PLAN = takes(
    json=struct({"stable": TEXT}, canary=Canary, shadow=Shadow, policy=Policy, reason=TEXT) | _CLOSED
)

_OPERATIONS: Operations = {
    "GET /api/models/{name}/rollout": operation(
        "The plan, what was seen at its present step, and the history", TAG, _REPORT, refuses(*KEYED, 404)
    ),
    "PUT /api/models/{name}/rollout": operation(
        "Set a plan", TAG, _REPORT, _CHANGES, body=_PLAN, parameters=(_IF_MATCH,)
    ),
    "DELETE /api/models/{name}/rollout": operation(
        "Drop the plan: the newest version answers", TAG, _REPORT, _CHANGES, parameters=(_IF_MATCH,)
    ),
    "POST /api/models/{name}/rollout/promote": operation(
        "The candidate becomes the stable version",
        TAG,
        _REPORT,
        _CHANGES,
        body=_SAID,
        parameters=(_IF_MATCH,),
    ),
    "POST /api/models/{name}/rollout/rollback": operation(
        "The candidate goes, or the last promotion is undone",
        TAG,
        _REPORT,
        _CHANGES,
        body=_SAID,
        parameters=(_IF_MATCH,),
    ),
}
TABLES: Tables = {"rollout": _OPERATIONS}
