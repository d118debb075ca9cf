"""A small network and many clients: what the server costs, where the network is nearly free."""

from __future__ import annotations

from ..contestants import net_of
from ..context import Context
from ..measure import InProcess
from ..models import MODELS
from ..result import Goal, Result, ahead, best, figure, pick, standard

NAME = "digits"
PEERS = ("mosec", "pytriton", "litserve", "bentoml", "fastapi", "mlserver", "kserve", "flask")
ONE = "--executors 1"


def run(context: Context) -> Result:
    """One core against the one-core limit, then both."""
    model = MODELS["digits"]
    baseline = InProcess(context.limit, model)
    result = Result(
        NAME,
        "Digits network, one image a request",
        "A convolutional network on 28x28 pixels, one float32 image (3 KB) in each request. The limit is "
        "onnxruntime in-process with one thread at its best batch size "
        f"({context.limit.best_batch(model)}), in one process and in two, measured by turns with the "
        "servers. wrk runs on the same two cores.",
    )
    servers = [net_of(model, "--executors=1", says=ONE)]
    servers += context.peers(PEERS, model, 1, result)
    one = context.rows(servers, NAME, (1, 64), baseline)
    servers = [
        net_of(model),
        net_of(model, "--executors=2"),
        net_of(model, "--workers=2"),
        *context.peers(PEERS, model, 2, result),
    ]
    two = context.rows(servers, NAME, (64,), baseline)
    result.keep([*one, *two])
    result.tables = [standard("Computing on one core", one), standard("Computing on both cores", two)]
    mine, both = pick(one, f"modelport {ONE}", 64), best(two, 64, own=True)
    result.goals = [
        Goal("one executor, 64 clients: of the one-core limit", 0.90, figure(mine, "of_one")),
        Goal("both cores, 64 clients: of the two-core limit", 0.70, figure(both, "of_two")),
        ahead(one, 64, ", one core"),
        ahead(two, 64, ", both cores"),
    ]
    return result
