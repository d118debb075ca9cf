"""How well tracks agree with a ground truth: MOTA, IDF1, HOTA and their kin, by the library `trackers`.

Its figures are those of TrackEval (the tests and the benchmark compare the two).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError, Unsupported
from .association import INSTALL
from .mot import Row, read_rows


class Scores(msgspec.Struct, frozen=True):
    """Shares are from 0 to 1 (MOTA may be below 0); the rest are counts over the whole video."""

    mota: float
    idf1: float
    hota: float
    det_a: float
    """HOTA's share of detection."""
    ass_a: float
    """HOTA's share of association."""
    precision: float
    recall: float
    id_switches: int
    fragments: int
    false_positives: int
    misses: int
    objects: int
    """Boxes in the ground truth that count."""


def score(truth: Path, result: Path, *, iou: float = 0.5) -> Scores:
    """Compare a result with the ground truth, both in MOTChallenge's format.

    Lines of the ground truth whose seventh number is 0 are not looked at, as that format has it; and where
    an eighth says what an object is, only pedestrians (1) are.

    Raises:
        Unsupported: the library is not installed. InputError: a file without a line that counts.
    """
    try:
        from trackers.eval import evaluate_mot_sequence
    except ImportError as problem:
        raise Unsupported(
            f"the scores need trackers, which does not load: {problem}", hint=INSTALL
        ) from problem
    wanted = [row for row in read_rows(truth) if row.score != 0 and row.class_ in (-1, 1)]
    given = read_rows(result)
    if not wanted:
        raise InputError(f"no object in {truth} counts", hint="its seventh number must not be 0")
    with tempfile.TemporaryDirectory() as folder:
        # The library reads each of the format's dialects in its own way: it gets one that it cannot misread.
        plain = Path(folder) / "truth.txt", Path(folder) / "result.txt"
        for path, rows in zip(plain, (wanted, given), strict=True):
            path.write_text("".join(map(_line, rows)))
        found: Any = evaluate_mot_sequence(*plain, metrics=["CLEAR", "HOTA", "Identity"], threshold=iou)
    clear, identity, hota = found.CLEAR, found.Identity, found.HOTA
    return Scores(
        mota=float(clear.MOTA),
        idf1=float(identity.IDF1),
        hota=float(hota.HOTA),
        det_a=float(hota.DetA),
        ass_a=float(hota.AssA),
        precision=float(clear.CLR_Pr),
        recall=float(clear.CLR_Re),
        id_switches=int(clear.IDSW),
        fragments=int(clear.Frag),
        false_positives=int(clear.CLR_FP),
        misses=int(clear.CLR_FN),
        objects=len(wanted),
    )


def _line(row: Row) -> str:
    x1, y1, x2, y2 = row.box
    return f"{row.frame + 1},{row.track},{x1:.4f},{y1:.4f},{x2 - x1:.4f},{y2 - y1:.4f},1,1,1\n"
