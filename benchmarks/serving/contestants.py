"""Who takes part: Modelport and the peers, each with its command and the wire it likes best."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from .models import SLEEP, Model, repository
from .places import PEERS, made, python_of
from .process import Server
from .result import BARE
from .wires import Request, oip_binary, oip_json, plain_json, raw

OWN = "modelport"


@cache
def _known_flags() -> str:
    command = [sys.executable, "-m", "modelport", "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def modelport(folder: Path, request: Request, *flags: str, says: str = "") -> Server:
    """`modelport serve` with flags; those that this build does not know are left out, and a note says so.

    Args:
        folder: a model repository.
        flags: `--name` or `--name=value`.
        says: what the table calls this, beside its name; by default the flags.
    """
    kept = [flag for flag in flags if flag.partition("=")[0] in _known_flags()]
    left = [flag for flag in flags if flag not in kept]
    command = (sys.executable, "-m", "modelport", "serve", str(folder), "--port", "{port}", *kept)
    named = says or " ".join(flags).replace("=", " ")
    return Server(
        name=f"{OWN} {named}".strip(),
        command=command,
        request=request,
        note=f"this build of modelport has no {', '.join(left)}; the row is without" if left else "",
    )


def net_of(model: Model, *flags: str, says: str = "") -> Server:
    """Modelport's bare network over OIP binary."""
    request = oip_binary(model, f"/v2/models/{model.name}.net/infer")
    return modelport(repository(model.name), request, *flags, says=says)


def fastapi(model: Model, workers: int) -> Server:
    """A thread for each request, no batching."""
    command = _run("fastapi", "-m", "uvicorn", "fastapi_app:app", "--port={port}", "--no-access-log")
    command += ("--log-level=warning", f"--workers={workers}")
    return _server("FastAPI", command, raw(model, "/predict"), model, workers)


def flask(model: Model, workers: int) -> Server:
    """gunicorn's synchronous workers, no batching."""
    command = _run("flask", "-m", "gunicorn", "-w", str(workers), "-b", "127.0.0.1:{port}")
    command += ("--log-level", "warning", "flask_app:app")
    return _server("Flask", command, raw(model, "/predict"), model, workers)


def litserve(model: Model, workers: int) -> Server:
    """LitServe."""
    return _server("LitServe", _run("litserve", "litserve_app.py"), raw(model, "/predict"), model, workers)


def mosec(model: Model, workers: int) -> Server:
    """mosec; its own time limit is its deadline where there is one, else 30 s."""
    flags = ("--port", "{port}", "--address", "127.0.0.1", "--log-level", "warning")
    command = _run("mosec", "mosec_app.py", *flags, "--timeout", "30000")
    return _server("mosec", command, raw(model, "/inference"), model, workers)


def bentoml(model: Model, workers: int) -> Server:
    """BentoML over JSON, its only batched wire."""
    command = _run("bentoml", "-m", "bentoml", "serve", "bentoml_app:Service", "--port", "{port}")
    command += ("--host", "127.0.0.1")
    return _server("BentoML", command, plain_json(model, "/predict"), model, workers)


def triton(model: Model, workers: int) -> Server:
    """NVIDIA Triton with its Python backend, the only one that comes with `pip install nvidia-pytriton`."""
    request = oip_binary(model, "/v2/models/network/infer")
    return _server("Triton", _run("pytriton", "triton/start.py"), request, model, workers)


def bare(model: Model, how: str) -> Server:
    """No server but a socket around the sleep, `thread` beside the event loop or `inline` on it."""
    environment = {"SLEEP": " ".join(map(str, SLEEP)), "OUTPUTS": str(model.outputs)}
    command = (sys.executable, str(PEERS / "bare.py"), how)
    return Server(f"{BARE}, {how}", command, raw(model, "/"), environment, PEERS)


def mlserver(model: Model, workers: int) -> Server:
    """MLServer over OIP JSON, which it reads faster than its binary form."""
    request = oip_json(model, "/v2/models/network/infer")
    return _server("MLServer", _run("mlserver", "mlserver/start.py"), request, model, workers)


def kserve(model: Model, workers: int) -> Server:
    """KServe's Python server over OIP binary."""
    request = oip_binary(model, "/v2/models/network/infer")
    return _server("KServe", _run("kserve", "kserve_app.py"), request, model, workers)


Entry = Callable[[Model, int], Server]
PEER_SERVERS: dict[str, Entry] = {
    "mosec": mosec,
    "pytriton": triton,
    "litserve": litserve,
    "bentoml": bentoml,
    "fastapi": fastapi,
    "mlserver": mlserver,
    "kserve": kserve,
    "flask": flask,
}
"""By the name of their environment."""


def peers(names: Sequence[str], model: Model, workers: int) -> tuple[list[Server], list[str]]:
    """The peers that are installed, and a line for each that is not."""
    there = [name for name in names if python_of(name).exists()]
    return [PEER_SERVERS[name](model, workers) for name in there], missing(names)


def missing(names: Sequence[str]) -> list[str]:
    """A line for each peer that has no environment."""
    lines = "left out, since it is not installed: {} (README.md says how)"
    return [lines.format(name) for name in names if not python_of(name).exists()]


def _run(peer: str, *arguments: str) -> tuple[str, ...]:
    return (str(python_of(peer)), *arguments)


def _server(name: str, command: tuple[str, ...], request: Request, model: Model, workers: int) -> Server:
    environment = {
        "MODEL": str(model.path),
        "WORKERS": str(workers),
        "PYTHONPATH": str(PEERS),
        "FOLDER": str(made("layout", f"{name}-{model.name}-{workers}")),
        # What phones home is told not to.
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }
    if model.name == "sleep":
        environment["SLEEP"] = " ".join(map(str, SLEEP))
    return Server(f"{name} x{workers}", command, request, environment, PEERS)
