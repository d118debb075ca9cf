"""A model that sleeps: the machine is free, so what is lost is the batcher's fault."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from ..contestants import bare, net_of
from ..context import Context
from ..measure import Asleep
from ..models import MODELS, SLEEP
from ..places import HERE, made
from ..process import Server
from ..result import Goal, Result, ahead, best, figure, standard

NAME = "synthetic"
PEERS = ("mosec", "pytriton", "litserve", "bentoml", "fastapi")


def run(context: Context) -> Result:
    """A lone client and 64 of them."""
    model = MODELS["sleep"]
    first, each = SLEEP
    result = Result(
        NAME,
        "A model that sleeps: what the batcher loses",
        f"One run of the model takes {first * 1e3:g} ms and {each * 1e3:g} ms for each row, asleep, so that "
        "both cores are free for the server and the client; one run at a time, as on an accelerator, of at "
        f"most 32 rows. The ideal is full batches back to back: {32 / (first + each * 32):,.0f} answers a "
        f"second with 64 clients, and {1 / (first + each):,.0f} with one; the limit is a loop that does "
        "nothing but sleep so, on this machine and by turns with the servers. A bare socket is no server: it "
        "answers any body with the same bytes after one sleep, and shows what the client, the kernel and the "
        "waking of idle cores take for one request.",
    )
    servers = [sleeping("--executors=1"), *context.peers(PEERS, model, 1, result)]
    limit = Asleep(context.limit)
    rows = context.rows(servers, NAME, (1, 64), limit)
    rows += context.rows([bare(model, how) for how in ("thread", "inline")], NAME, (1,), limit)
    result.keep(rows)
    result.tables = [standard("One worker", rows, of_one_core="of the limit", of_two_cores=None)]
    lone, many = best(rows, 1, own=True), best(rows, 64, own=True)
    result.goals = [
        Goal("answers a second for one client", 185, figure(lone, "rate")),
        Goal("answers a second for 64 clients", 2650, figure(many, "rate")),
        ahead(rows, 1, ", one client"),
        ahead(rows, 64, ", 64 clients"),
    ]
    return result


def sleeping(*flags: str) -> Server:
    """Modelport with the runtime that sleeps, which is a plugin of its own package."""
    server = net_of(
        MODELS["sleep"], "--runtime=sleep", "--max-batch=32", *flags, says=" ".join(flags).replace("=", " ")
    )
    path = os.pathsep.join(filter(None, [str(plugin()), os.environ.get("PYTHONPATH")]))
    return replace(server, environment={**server.environment, "PYTHONPATH": path})


def plugin() -> Path:
    """`synthetic_runtime/` installed into a folder of its own, again when it changes.

    Raises:
        CalledProcessError: pip could not build it.
    """
    source = HERE / "synthetic_runtime"
    text = b"".join((source / name).read_bytes() for name in ("pyproject.toml", "modelport_sleep.py"))
    folder = made(f"plugin-{hashlib.sha256(text).hexdigest()[:12]}")
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        with tempfile.TemporaryDirectory() as copy:  # a build leaves its own files beside the source
            shutil.copytree(source, copy, dirs_exist_ok=True)
            subprocess.run([*pip, "--target", str(folder), copy], check=True)
    return folder
