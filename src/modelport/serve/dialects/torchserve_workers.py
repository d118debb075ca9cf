"""One version as TorchServe describes it: its executors are the workers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from ...engine.entry import Entry
from ...engine.model import LiveModel
from ...monitor.process import PROC, read

MAX_WAITING = 65536
"""Rows that the engine lets wait for one version."""
_FIRST_ID = 9000


def describe(entry: Entry, place: str, *, customized: bool) -> dict[str, Any]:
    """What `GET /models/NAME` says of one version.

    Args:
        place: of the bundle, within the repository.
        customized: whether the bundle's own words are wanted too.
    """
    model, manifest = entry.model, entry.bundle.manifest
    workers = _workers(model) if model else []
    waiting = model.metrics.waiting if model else 0
    timeout = model.settings.timeout if model else 0.0
    made: dict[str, Any] = {
        "modelName": entry.name,
        "modelVersion": entry.version,
        "modelUrl": place,
        "runtime": (model.settings.runtime or "onnxruntime") if model else "",
        "minWorkers": len(workers),
        "maxWorkers": len(workers),
        "batchSize": model.settings.max_rows if model and manifest.graphs.net.batch else 1,
        "maxBatchDelay": 0,
        "responseTimeout": int(timeout),
        "startupTimeout": 0,
        "maxRetryTimeoutInSec": 0,
        "clientTimeoutInMills": int(timeout * 1000),
        "parallelType": "",
        "parallelLevel": 0,
        "deviceType": "cpu",
        "continuousBatching": False,
        "useJobTicket": False,
        "useVenv": False,
        "stateful": False,
        "sequenceMaxIdleMSec": 0,
        "sequenceTimeoutMSec": 0,
        "maxNumSequence": 0,
        "maxSequenceJobQueueSize": 0,
        "loadedAtStartup": entry.wanted is None,
        "workers": workers,
        "jobQueueStatus": {"remainingCapacity": MAX_WAITING - waiting, "pendingRequests": waiting},
    }
    if customized:
        made["customizedMetadata"] = {
            "task": manifest.task,
            "description": manifest.description,
            "digest": entry.bundle.digest,
            "reason": entry.reason,
        }
    return made


def _workers(model: LiveModel) -> list[dict[str, Any]]:
    workers = []
    for number, pid in enumerate(model.pids()):
        found = read(pid)
        workers.append(
            {
                "id": str(_FIRST_ID + number),
                "startTime": _started(found[0]) if found else "",
                "status": "READY" if found else "UNLOADING",
                "memoryUsage": found[1].resident_bytes if found else 0,
                "pid": pid,
                "gpu": False,
                "gpuUsage": "N/A",
            }
        )
    return workers


def _started(ticks: int) -> str:
    """A process's start, in ticks since the machine's, as TorchServe writes times."""
    uptime = float((PROC / "uptime").read_text().split()[0])
    now = datetime.now(UTC).timestamp()
    started = datetime.fromtimestamp(now - uptime + ticks / os.sysconf("SC_CLK_TCK"), UTC)
    return started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
