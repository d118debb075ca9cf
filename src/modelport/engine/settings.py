"""How models are run."""

from __future__ import annotations

import msgspec


class EngineSettings(msgspec.Struct, frozen=True):
    """How models are run; every default is measured or follows from the machine."""

    executors: int = 0
    """Processes of one model side by side; 0 is one for each core."""
    max_rows: int = 64
    runtime: str | None = None
    """What runs networks; None for the runtime of the variant that is chosen, or ONNX Runtime."""
    timeout: float = 30.0
    """Seconds that a request has which says nothing else: it is refused at once where it would take longer,
    and then where it still waits. One whose run has begun is answered when that ends: see `run_limit`."""
    slo: float = 0.0
    """Seconds within which answers are promised: a run takes at most half of it where that can be had. 0 for
    no such promise."""
    run_limit: float = 60.0
    """Seconds after which one run counts as hung."""
    wide: bool = True
    """Whether a lone request may use every core (costs one executor a second copy of the network)."""
    golden_every: float = 300.0
    """Seconds between live replays of golden cases; 0 for none."""
