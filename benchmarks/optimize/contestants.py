"""Who makes a network of each case, with which settings. The settings are those of the peers' documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .cases import Case

START, OURS = "start", "ours"
MARGIN = 0.5
"""Points of the main metric that may be lost."""


@dataclass(frozen=True)
class Contestant:
    """One way to make a network."""

    id: str
    peer: str
    """Whose it is: results are compared by it."""
    title: str
    environment: str = ""
    module: str = ""
    """Of peers/, run with the Python of the environment."""
    settings: dict[str, Any] = field(default_factory=dict)


OLIVE, GUIDE, NNCF = "Olive", "ONNX Runtime's guide", "NNCF + OpenVINO"
ULTRALYTICS, PLAIN = "Ultralytics export int8", "OpenVINO, float32 file"


def _guide(name: str, title: str, **settings: Any) -> Contestant:
    return Contestant(f"guide-{name}", GUIDE, title, "openvino", "onnxruntime_guide", settings)


def _nncf(name: str, title: str, **settings: Any) -> Contestant:
    settings = {"max_drop": MARGIN / 100, **settings}
    return Contestant(f"nncf-{name}", NNCF, title, "openvino", "nncf_control", settings)


def _olive(name: str, title: str, **settings: Any) -> Contestant:
    settings = {"max_drop": MARGIN / 100, **settings}
    return Contestant(f"olive-{name}", OLIVE, title, "olive", "olive_passes", settings)


U8S8 = {"activations": "QUInt8", "per_channel": True}
EVERYWHERE = (
    Contestant(START, "fp32", "the bundle as it is, float32"),
    Contestant(OURS, "modelport optimize", "the chosen variant"),
    _olive("default", "static int8, its defaults (S8 activations, S8 weights)"),
    _olive(
        "u8s8",
        "static int8, U8 activations, per channel",
        **{"pass": {"activation_type": "uint8", "per_channel": True}},
    ),
    _guide("default", "QDQ, its defaults (S8S8)"),
    _guide("u8s8", "QDQ, U8S8 per channel", **U8S8),
    _nncf("control", "accuracy control, its defaults"),
    _nncf("mixed", "accuracy control, mixed preset", preset="MIXED"),
    Contestant("openvino", PLAIN, "nothing but converted", "openvino", "nncf_control", {"plain": True}),
)
CLASSIFIERS = (
    # These two calibrators keep every layer's outputs of all pictures: over 19 GB for yolov5n.
    _guide("entropy", "QDQ, U8S8 per channel, entropy", **U8S8, calibrate="Entropy"),
    _guide("percentile", "QDQ, U8S8 per channel, percentile", **U8S8, calibrate="Percentile"),
    # Of eleven points three are forbidden by the pass itself.
    _olive("search", "its own search over the pass", search=10),
)
DETECTORS = (
    _guide("conv", "QDQ, U8S8 per channel, convolutions only", **U8S8, op_types=["Conv"]),
    Contestant(
        "ultralytics-openvino",
        ULTRALYTICS,
        "OpenVINO",
        "ultralytics",
        "ultralytics_export",
        {"format": "openvino"},
    ),
    Contestant(
        "ultralytics-onnx", ULTRALYTICS, "ONNX", "ultralytics", "ultralytics_export", {"format": "onnx"}
    ),
)


def contestants(case: Case) -> list[Contestant]:
    """All that are measured on a case, the START first."""
    return [*EVERYWHERE, *(DETECTORS if case.weights else CLASSIFIERS)]
