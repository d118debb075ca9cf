"""`modelport doctor`: this machine, what was found on it, and the command that installs what was not."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from .. import config, plugins
from .._version import __version__
from ..engine.cores import usable_cores
from ..errors import ModelportError, UsageError
from ..runtimes.machine import cpu_flags
from .render import console, facts, grid, json_option, write_json

CORE = ("numpy", "onnx", "onnxruntime", "pillow", "msgspec", "click", "rich", "starlette", "httptools")
TABULAR = ("scikit-learn", "skl2onnx", "skops", "pandas")
OPTIONAL: dict[str, tuple[tuple[str, ...], str, str]] = {
    "video": (("av",), "read and write video", "pip install 'modelport[video]'"),
    "evaluate": (
        ("faster-coco-eval", "matplotlib", "PyYAML"),
        "evaluate detectors, and reports",
        "pip install 'modelport[evaluate]'",
    ),
    "track": (
        ("trackers", "deep-sort-realtime", "websockets"),
        "follow objects",
        "pip install 'modelport[track]'",
    ),
    "torch": (("torch", "onnxscript"), "pack PyTorch models", "pip install 'modelport[torch]'"),
    "tensorflow": (
        ("tensorflow-cpu|tensorflow", "keras", "tf2onnx"),
        "pack Keras models",
        "pip install 'modelport[tensorflow]'",
    ),
    "opencv": (
        ("opencv-python-headless|opencv-python",),
        "record golden cases with OpenCV itself",
        "pip install 'modelport[opencv]'",
    ),
    "sklearn": (TABULAR, "pack models of scikit-learn", "pip install 'modelport[sklearn]'"),
    "xgboost": (
        ("xgboost-cpu|xgboost", *TABULAR),
        "pack models of XGBoost",
        "pip install 'modelport[xgboost]'",
    ),
    "lightgbm": (("lightgbm", *TABULAR), "pack models of LightGBM", "pip install 'modelport[lightgbm]'"),
    "catboost": (("catboost", *TABULAR), "pack models of CatBoost", "pip install 'modelport[catboost]'"),
    "text": (("tokenizers",), "tokenize as Hugging Face does", "pip install 'modelport[text]'"),
    "optimize": (
        ("onnxslim", "onnx-ir", "sympy", "matplotlib"),
        "try every candidate of optimize",
        "pip install 'modelport[optimize]'",
    ),
    "jpeg": (("simplejpeg",), "decode JPEG more quickly", "pip install 'modelport[jpeg]'"),
    "grpc": (
        ("grpcio", "protobuf", "grpcio-health-checking", "grpcio-reflection"),
        "answer gRPC",
        "pip install 'modelport[grpc]'",
    ),
    "otel": (
        ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
        "send traces",
        "pip install 'modelport[otel]'",
    ),
}
"""Feature -> (distributions, any of those joined by |), what it is for, how to get it."""


@click.command()
@click.option("--envs", is_flag=True, help="Show the private environments instead, with their sizes.")
@click.option("--make", metavar="NAME", help="With --envs: make one beforehand.")
@click.option("--clear", metavar="NAME", help="With --envs: remove one of them, or 'all'.")
@json_option
def command(envs: bool, make: str | None, clear: str | None, as_json: bool) -> int:
    """Show the hardware, the runtimes and frameworks found, and what is missing with its command.

    Exit code 1 if something that the core needs is missing or broken.
    """
    if envs or make or clear:
        _environments(make, clear, as_json=as_json)
        return 0
    report = examine()
    if as_json:
        write_json(report)
    else:
        _print(report)
    return 0 if report["ok"] else 1


def _environments(make: str | None, clear: str | None, *, as_json: bool) -> None:
    from . import environments

    if make and clear:
        raise UsageError("--make and --clear exclude each other")
    if clear:
        environments.clear(clear, as_json=as_json)
    elif make:
        environments.make(make, as_json=as_json)
    else:
        environments.show(as_json=as_json)


def examine() -> dict[str, Any]:
    """Everything the table shows. Imports onnxruntime, and no framework."""
    core = {name: _version(name) for name in CORE}
    runtimes = [_runtime(name) for name in plugins.table("runtimes")]
    return {
        "schema": "modelport.doctor/1",
        "ok": all(core.values()) and any(runtime["ok"] for runtime in runtimes),
        "modelport": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": usable_cores(),
        "cpu_features": _cpu_features(),
        "core": core,
        "runtimes": runtimes,
        "features": [_feature(name) for name in OPTIONAL],
        "machines": _machines(),
        "importers": list(plugins.table("importers")),
        "settings": _settings(),
    }


def _settings() -> list[dict[str, str]]:
    """Every setting that is not a built-in default, and where it comes from."""
    from .main import VERBS, options_of

    options = {verb: options_of(verb) for verb in VERBS}
    found = config.origins(config.project_settings(Path.cwd()), options)
    return [{"name": name, "value": value, "origin": origin} for name, value, origin in found]


def _runtime(name: str) -> dict[str, Any]:
    try:
        runtime = plugins.load("runtimes", name)()
        return {"name": name, "ok": True, "about": runtime.describe()}
    except (ModelportError, ImportError) as problem:
        hint = problem.hint if isinstance(problem, ModelportError) else None
        about = problem.message if isinstance(problem, ModelportError) else str(problem)
        return {"name": name, "ok": False, "about": about, "install": hint or ""}


def _machines() -> list[dict[str, Any]]:
    """What `modelport verify --on` can replay a bundle on here."""
    from ..emulation.machine import machines

    return [
        {"name": one.name, "ok": one.available, "ready": one.ready, "about": one.title, "reason": one.reason}
        for one in machines()
    ]


def _feature(name: str) -> dict[str, Any]:
    groups, purpose, install = OPTIONAL[name]
    found = {
        group.partition("|")[0]: next((v for n in group.split("|") if (v := _version(n))), None)
        for group in groups
    }
    return {
        "name": name,
        "ok": all(found.values()),
        "found": found,
        "purpose": purpose,
        "install": install,
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_features() -> list[str]:
    """The instruction sets that decide how fast networks run; empty where the system does not say."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve")
    return [flag for flag in known if flag in cpu_flags()]


def _print(report: dict[str, Any]) -> None:
    out = console()
    out.print(
        facts(
            f"Modelport {report['modelport']}",
            [
                ("Python", report["python"]),
                ("system", report["system"]),
                ("cores", f"{report['cores']}  {' '.join(report['cpu_features'])}"),
                ("settings", _shown(report["settings"])),
            ],
        )
    )
    rows = [
        (name, _mark(found), found or "", f"pip install {name}" if not found else "")
        for name, found in report["core"].items()
    ]
    some = any(runtime["ok"] for runtime in report["runtimes"])
    rows += [
        (r["name"] + " runtime", _mark(r["ok"], optional=some), r["about"], r.get("install", ""))
        for r in report["runtimes"]
    ]
    for feature in report["features"]:
        found = ", ".join(f"{name} {number}" for name, number in feature["found"].items() if number)
        need = "" if feature["ok"] else f"to {feature['purpose']}: {feature['install']}"
        rows.append((f"[{feature['name']}]", _mark(feature["ok"], optional=True), found, need))
    for one in report["machines"]:
        todo = one["reason"] and f"to verify --on it: {one['reason']}"
        about = one["about"] if one["ready"] or todo else f"{one['about']}; fetched when it is first used"
        rows.append((f"on {one['name']}", "yes" if one["ok"] else "not here", about, todo))
    out.print(grid(["part", "", "found", "to do"], rows))


def _shown(settings: list[dict[str, str]]) -> str:
    if not settings:
        return f"none but the defaults ({config.PROJECT_FILE}, {config.PREFIX}_VERB_OPTION)"
    return "\n".join(f"{s['name']} = {s['value']}  ({s['origin']})" for s in settings)


def _mark(found: object, *, optional: bool = False) -> str:
    return "yes" if found else "not installed" if optional else "MISSING"
