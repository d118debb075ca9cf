"""JPEG in, labels out, beside the service that a tutorial would write."""

from __future__ import annotations

from dataclasses import replace

from ..contestants import modelport
from ..context import Context
from ..measure import Row
from ..models import MODELS, repository
from ..photos import answers, photo, picture_limit
from ..places import PEERS as PEERS_FOLDER
from ..places import python_of
from ..process import Server
from ..result import Goal, Result, Table, best, over, standard
from ..wires import Request, pictures

NAME = "predict"
SIZES = ((500, 375), (1920, 1080))
CLIENTS = 16
VARIANTS = {
    "async def": ("/async", ""),
    "def": ("/threads", ""),
    "def, session of one thread": ("/threads", "1"),
}
"""What the tutorial's service is called -> its path, and the threads of its session (none said: defaults)."""


def run(context: Context) -> Result:
    """Two sizes of picture, as they are and in a form."""
    result = Result(
        NAME,
        "JPEG in, labels out",
        "The 224x224 network, torchvision's ImageNet recipe. The other side is FastAPI, Pillow, NumPy "
        "and onnxruntime put together by hand as a tutorial does, `uvicorn` with its defaults, in both its "
        "variants and in one with a session of one thread; the same network, and every answer is checked to "
        "have the same labels and scores. 16 clients and a lone one. The limit is that work in-process; `no "
        "server` is what would be reached without one: for 16 clients the limit of two cores, for one the "
        "same work on one picture after the other, the network on all cores.",
    )
    context.lacks(["fastapi"], result)
    for width, height in SIZES:
        photos = [photo(width, height, seed) for seed in range(8)]
        size = f"{width}x{height}, {sum(map(len, photos)) // len(photos) // 1024} KiB"
        expected, baseline = answers(photos), picture_limit(context.limit, photos)
        for form in (False, True):
            request = pictures(photos, expected, "/predict/conv", form=form)
            servers = [modelport(repository("conv", "imagenet"), request)]
            if python_of("fastapi").exists():
                servers += [
                    _tutorial(request, name, path, threads) for name, (path, threads) in VARIANTS.items()
                ]
            rows = context.rows(servers, f"conv {size}", (1, CLIENTS), baseline)
            result.keep(rows)
            kind = "in a form" if form else "as they are"
            result.tables.append(standard(f"{size}, {kind}", rows))
            result.tables.append(_ratios(f"{size}, {kind}: answers a second over the tutorial's", rows))
            result.goals += [_goal(f"{size}, {kind}", rows, clients) for clients in (1, CLIENTS)]
    return result


def _tutorial(request: Request, name: str, path: str, threads: str) -> Server:
    asked = replace(request, path=path if "form" in request.wire else f"{path}-raw")
    command = (str(python_of("fastapi")), "-m", "uvicorn", "tutorial_app:app", "--port={port}")
    environment = {"MODEL": str(MODELS["conv"].path), "PYTHONPATH": str(PEERS_FOLDER)}
    if threads:
        environment["THREADS"] = threads
    return Server(f"FastAPI {name}", command, asked, environment, PEERS_FOLDER)


def _ratios(title: str, rows: list[Row]) -> Table:
    others = sorted({row.server for row in rows if not row.server.startswith("modelport")})
    cells = []
    for clients in (1, CLIENTS):
        ours = best(rows, clients, own=True)
        theirs = {row.server: row for row in rows if row.connections == clients}
        ratios = [over(ours, theirs.get(name)) for name in others]
        cells.append([str(clients), *(f"{ratio:.2f}" if ratio else "-" for ratio in ratios)])
        bounds = [_unserved(row) / row.rate if (row := theirs.get(name)) else None for name in others]
        cells.append([f"{clients}, no server", *(f"{ratio:.2f}" if ratio else "-" for ratio in bounds)])
    return Table(title, ["clients", *others], cells)


def _unserved(row: Row) -> float:
    """Answers a second that the machine would give without any server, measured by turns with the row."""
    return 1 / row.direct["all cores"] if row.connections == 1 else row.rate / row.of_two


def _goal(what: str, rows: list[Row], clients: int) -> Goal:
    """Against the faster of the tutorial's two variants; the tuned one is shown, but is no tutorial's."""
    plain = [row for row in rows if "one thread" not in row.server]
    ratio = over(best(plain, clients, own=True), best(plain, clients, own=False))
    return Goal(
        f"{what}, {clients} client{'s' if clients > 1 else ''}: over the tutorial's better", 1.5, ratio
    )
