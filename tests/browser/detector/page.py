"""Pictures for the detectors' page, and what is done with it in every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from modelport import Pipeline

from ...boxes import pixels_with

Found = list[dict[str, Any]]
Answer = Callable[..., Found]
PARTS = [("red", 40, 30, 120, 90, 0.8), ("blue", 180, 100, 300, 220, 0.6), ("green", 20, 150, 80, 230, 0.4)]
"""Label, left, top, right, bottom and score, in a picture of 320 x 240."""


def pixels(parts: list[tuple[Any, ...]] = PARTS, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    """uint8[H, W, 3] with rectangles of which each has a score of its own."""
    found = pixels_with([], size=size)
    for *box, strength in parts:
        left, top, right, bottom = box[1:]
        drawn = pixels_with([tuple(box)], size=size, strength=strength)
        found[top:bottom, left:right] = drawn[top:bottom, left:right]
    return found


def write(path: Path, picture: np.ndarray | None = None, **options: Any) -> Path:
    """The picture as a file."""
    Image.fromarray(pixels() if picture is None else picture).save(path, **options)
    return path


def asked(pipeline: Pipeline, file: Path, **options: Any) -> Found:
    """What Python gives for a picture's file."""
    found = pipeline.readable(pipeline.answer(pipeline.decode(file.read_bytes()), options))
    assert isinstance(found, list)
    return found


def shown(page: Page) -> Found:
    """The rows of the list, as they are in its data."""
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    rows: Found = page.locator("#found li").evaluate_all(
        """rows => rows.map(row => ({
          label: row.querySelector(".name").textContent, class: Number(row.dataset.class),
          score: Number(row.dataset.score), box: row.dataset.box.split(" ").map(Number),
        }))"""
    )
    return rows


def show(page: Page, file: Path) -> Found:
    """Choose a file and wait for its answer."""
    with page.expect_response("**/predict/**"):
        page.set_input_files("#file", file)
    expect(page.locator("#top")).to_contain_text("object")
    return shown(page)


def drag(page: Page, name: str, value: float) -> None:
    """Move a slider."""
    page.locator(f"#{name}").fill(str(value))
