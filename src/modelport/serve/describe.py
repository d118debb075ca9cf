"""What the server says of itself and its models, as plain dicts in the Open Inference Protocol's words.

One place for HTTP and gRPC alike. Knows nothing of either.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from .._version import __version__
from ..bundle.rules import NETWORK_SUFFIX as NET
from ..engine.entry import Entry
from ..engine.repository import Repository
from ..errors import Unsupported
from ..monitor.metrics import Metrics, ModelMetrics
from ..monitor.snapshot import of_model
from ..tensors import OIP_DATATYPES, TensorSpec
from .infer import find, specs
from .oip import metadata
from .rows import is_record

log = logging.getLogger("modelport")

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)


TRACE = {"trace_level": ["OFF"]}
"""Triton's trace settings: nothing is traced by them."""


def check_trace(name: str, values: Sequence[object]) -> None:
    """Raises Unsupported where a trace setting would change something."""
    if name != "trace_level" or list(values) not in ([], ["OFF"]):
        raise Unsupported(
            f"trace setting {name[:100]!r} cannot be changed here",
            hint="tracing is configured by OTEL_* variables when the server starts",
        )


def log_settings() -> dict[str, bool]:
    """What is logged, in Triton's words."""
    levels = (("log_info", logging.INFO), ("log_warning", logging.WARNING), ("log_error", logging.ERROR))
    return {name: log.isEnabledFor(level) for name, level in levels}


def check_log(settings: Collection[str]) -> None:
    """Raises Unsupported where there is a log setting to change."""
    if settings:
        raise Unsupported(
            f"log setting {min(settings)[:100]!r} cannot be changed here", hint="logs are configured at start"
        )


def server() -> dict[str, Any]:
    """The server's name, version and protocol extensions."""
    return {"name": "modelport", "version": __version__, "extensions": list(EXTENSIONS)}


def model(repository: Repository, entry: Entry, net: bool) -> dict[str, Any]:
    """A model's metadata; `versions` are those that can be asked now, which are the loaded ones.

    `parameters`, where it has options, says what a request's may hold.
    """
    inputs, outputs = specs(entry, net)
    found = {
        "name": entry.name + NET * net,
        "versions": [each.version for each in repository.entries() if each.name == entry.name and each.model],
        "platform": platform(entry, net),
        "inputs": metadata(inputs),
        "outputs": metadata(outputs),
    }
    offered = options(entry, net)
    return found | {"parameters": offered} if offered else found


def options(entry: Entry, net: bool) -> dict[str, dict[str, Any]]:
    """The bundle's options by name, each with its dtype, default, range and words; the network has none."""
    return {
        option.name: {
            "dtype": option.dtype,
            "default": option.default,
            "minimum": option.minimum,
            "maximum": option.maximum,
            "description": option.description,
        }
        for option in (() if net else entry.bundle.manifest.options)
    }


def platform(entry: Entry, net: bool) -> str:
    """What runs it, as the protocol names it."""
    if not net:
        return "modelport_bundle"
    return "onnxruntime_onnx" if entry.bundle.manifest.graphs.net.function is None else "python_function"


def index(repository: Repository, *, only_ready: bool = False) -> list[dict[str, str]]:
    """Every version of every model, whole and network, with its state and why it is in it."""
    found = [(entry, *entry.standing()) for entry in repository.entries()]
    return [
        {"name": entry.name + suffix, "version": entry.version, "state": state, "reason": reason}
        for entry, state, reason in found
        for suffix in ("", NET)
        if state == "READY" or not only_ready
    ]


def broken(repository: Repository) -> list[dict[str, str]]:
    """What is in the repository's folder and is no bundle, as the index has it."""
    return [
        {"name": each.name, "version": each.version, "state": "UNAVAILABLE", "reason": each.reason}
        for each in repository.broken
    ]


def config(entry: Entry, net: bool, *, max_rows: int) -> dict[str, Any]:
    """A model's configuration as Triton's `model_config.proto` has it in JSON.

    Args:
        max_rows: the most rows in one batch, where the network takes batches.
    """
    batches = _takes_batches(entry, net)
    inputs, outputs = specs(entry, net)
    found: dict[str, Any] = {
        "name": entry.name + NET * net,
        "platform": platform(entry, net),
        "backend": "modelport",
        "version_policy": {"all": {}},
        "max_batch_size": max_rows if batches else 0,
        "input": [_tensor(spec, batches) for spec in inputs],
        "output": [_tensor(spec, batches) for spec in outputs],
        "model_transaction_policy": {"decoupled": False},
    }
    if offered := options(entry, net):
        found["parameters"] = {
            name: {"string_value": json.dumps(option["default"])} for name, option in offered.items()
        }
    if batches:
        found["dynamic_batching"] = {"max_queue_delay_microseconds": 0}
    return found


async def counted(state: Any) -> Metrics:
    """What was counted by all workers, apart from what goes on counting.

    Args:
        state: the application's: `repository`, and `collect` as in `watch`.
    """
    collect: Callable[[], Awaitable[Metrics]] | None = getattr(state, "collect", None)
    if collect:
        return await collect()
    repository: Repository = state.repository
    return repository.metrics.copy()


async def statistics(state: Any, name: str | None, version: str | None) -> list[dict[str, Any]]:
    """`model_stats`: of one version, of every version of a model, or of all that is loaded.

    The two names of a bundle are counted together: they share a queue and its executors. A version for
    which nothing was counted has zeros.

    Args:
        state: as `counted` takes it.
        name: None for all models.
        version: None for all versions of `name`, also those that are not loaded.

    Raises:
        NotFound: no such model or version.
    """
    asked = _versions(state.repository, name, version)
    figures = (await counted(state)).snapshot()
    found = []
    for entry, net in asked:
        of = figures.model(entry.name, entry.version) or of_model(ModelMetrics(entry.name, entry.version))
        found.append(dict(of.statistics(), name=entry.name + NET * net))
    return found


def _versions(repository: Repository, name: str | None, version: str | None) -> list[tuple[Entry, bool]]:
    if name is None:
        return [(entry, net) for entry in repository.entries() if entry.model for net in (False, True)]
    entry, net = find(repository, name, version)
    if version is not None:
        return [(entry, net)]
    return [(each, net) for each in repository.entries() if each.name == entry.name]


def _takes_batches(entry: Entry, net: bool) -> bool:
    """Whether the first axis of what this name takes is the batch."""
    manifest = entry.bundle.manifest
    if is_record(manifest, net):
        return True
    return manifest.graphs.net.batch and (net or manifest.decode.kind == "tensors")


def _tensor(spec: TensorSpec, batches: bool) -> dict[str, Any]:
    kind = OIP_DATATYPES[spec.dtype]
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if kind == "BYTES" else f"TYPE_{kind}",
        "dims": [-1 if isinstance(size, str) else size for size in spec.shape[batches:]],
    }
