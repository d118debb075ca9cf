"""Write docs/images/digits.png: the digits page in Chromium, with a digit drawn on it by mouse.

python scripts/screenshots.py [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def draw(page: Page, strokes: list[list[tuple[float, float]]]) -> None:
    """Draw strokes (coordinates 0 to 1) on the page's canvas with the mouse, and wait for the answer."""
    box = page.locator("canvas").first.bounding_box()
    assert box
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
    page.wait_for_timeout(1500)


def main() -> None:
    """Serve the demo, draw, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    strokes = json.loads((ROOT / "examples" / "digits" / "samples" / "strokes.json").read_text())
    server = subprocess.Popen(
        [sys.executable, "-m", "modelport", "demo", "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        url = server.stdout.readline().split()[-1]
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=options.chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1120, "height": 720})
            page.goto(url)
            draw(page, strokes["5"][0])
            page.screenshot(path=ROOT / "docs" / "images" / "digits.png")
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
