"""A network of milliseconds and large bodies: what is lost to copies and to batching that does not pay."""

from __future__ import annotations

from collections.abc import Sequence

from ..contestants import modelport, net_of
from ..context import Context
from ..measure import InProcess, Row
from ..models import MODELS, repository
from ..photos import answers, photo, picture_limit
from ..result import Goal, Result, Table, ahead, best, figure, standard
from ..wires import pictures

NAME = "conv"
FLOAT_PEERS = ("mosec", "pytriton", "litserve", "bentoml", "fastapi")
PIXEL_PEERS = ("mosec", "pytriton", "fastapi")
CLIENTS = 16


def run(context: Context) -> Result:
    """Floats, pixels and JPEGs."""
    result = Result(
        NAME,
        "A 224x224 convolutional network",
        "A network of MobileNetV2's shape, one image a request, 16 clients and a lone one. The limit is "
        "onnxruntime in-process at its best batch size, one thread in one process and in two, measured by "
        "turns; where the body is pixels the cast is in the network and so in the limit, and where it is a "
        "JPEG of 500x375 decoding and preparing it is in the limit (the faster of Pillow and NumPy by hand "
        "and `modelport.Pipeline`). Peers have two workers; FastAPI one, whose threads use both cores.",
    )
    floats = _networks(context, result, "conv", FLOAT_PEERS)
    pixels = _networks(context, result, "conv_uint8", PIXEL_PEERS)
    files = _jpegs(context)
    result.keep([*floats, *pixels, *files])
    result.tables = [
        standard("float32 bodies of 600 KB", floats),
        standard("uint8 bodies of 150 KB", pixels),
        standard("JPEG bodies, answered with labels", files),
        _lone("One client beside calling the session directly", [*floats, *pixels]),
    ]
    for rows, wanted, what in ((floats, 0.93, "float32"), (pixels, 0.96, "uint8"), (files, 0.96, "JPEG")):
        ours = best(rows, CLIENTS, own=True)
        result.goals.append(
            Goal(f"{what}, 16 clients: of the two-core limit", wanted, figure(ours, "of_two"))
        )
    result.goals.append(ahead(floats, CLIENTS, ", float32"))
    for rows, what in ((floats, "float32"), (pixels, "uint8")):
        lone = best(rows, 1, own=True)
        allowed = lone and min(lone.direct.values()) * 1.05 + 0.3e-3
        share = lone.p50 / allowed if lone and allowed else None
        words = f"{what}, one client: median over (1.05 x calling the session + 0.3 ms)"
        result.goals.append(Goal(words, 1.0, share, at_most=True))
    return result


def _networks(context: Context, result: Result, name: str, peers: Sequence[str]) -> list[Row]:
    model = MODELS[name]
    servers = [net_of(model)]
    for peer in peers:
        servers += context.peers([peer], model, 1 if peer == "fastapi" else 2, result)
    return context.rows(servers, name, (1, CLIENTS), InProcess(context.limit, model))


def _jpegs(context: Context) -> list[Row]:
    files = [photo(500, 375, seed) for seed in range(8)]
    request = pictures(files, answers(files), "/predict/conv")
    server = modelport(repository("conv", "imagenet"), request)
    return context.rows([server], "conv", (1, CLIENTS), picture_limit(context.limit, files))


def _lone(title: str, rows: list[Row]) -> Table:
    columns = [
        "server",
        "model",
        "median ms",
        "session of one thread",
        "session with defaults",
        "over the better",
    ]
    cells = []
    for row in rows:
        if row.connections == 1 and row.direct:
            one, default = row.direct["one thread"], row.direct["default options"]
            more = f"{row.p50 / min(one, default):.2f}x, {(row.p50 - min(one, default)) * 1e3:+.2f} ms"
            figures = [f"{seconds * 1e3:.2f}" for seconds in (row.p50, one, default)]
            cells.append([row.server, row.model, *figures, more])
    return Table(title, columns, cells)
