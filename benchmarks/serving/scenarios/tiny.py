"""Ten numbers in, one out: nothing but the server."""

from __future__ import annotations

from ..contestants import net_of
from ..context import Context
from ..measure import InProcess
from ..models import MODELS
from ..result import Goal, Result, best, over, standard

NAME = "tiny"
PEERS = ("mosec", "pytriton", "litserve", "bentoml", "fastapi", "flask")


def run(context: Context) -> Result:
    """Requests a second and processor time of each, with one worker."""
    model = MODELS["tiny"]
    result = Result(
        NAME,
        "Next to no network: ten numbers in, one out",
        "A perceptron of 32 units: the network takes microseconds, so that what is measured is the server, "
        "with one worker.",
    )
    servers = [net_of(model, "--executors=1"), *context.peers(PEERS, model, 1, result)]
    rows = context.rows(servers, NAME, (1, 64), InProcess(context.limit, model))
    result.keep(rows)
    result.tables = [standard("One worker", rows, of_one_core=None, of_two_cores=None)]
    ours = best(rows, 64, own=True)
    for name, peer in (("mosec", "mosec x1"), ("Triton", "Triton x1")):
        theirs = next((row for row in rows if row.server == peer and row.connections == 64), None)
        result.goals.append(Goal(f"answers a second over {name}'s, 64 clients", 1.0, over(ours, theirs)))
    return result
