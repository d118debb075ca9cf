"""The pages as files: what can be told without a browser."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from modelport.serve.frame import STATIC, page, sent
from modelport.serve.pages import PAGES

FILES = sorted(STATIC.iterdir())
MAX_PACKED = 56_000  # bytes of all files as sent, compressed; 5,000 are the forms of tables and texts


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_inline_and_nothing_from_elsewhere(file: Path) -> None:
    text = file.read_text()
    addresses = set(re.findall(r"https?://[\w.-]+", text))
    assert addresses <= {"http://www.w3.org"}, addresses  # the namespace of SVG
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text)
    if file.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
        assert all(re.search(r"src=", tag) for tag in re.findall(r"<script[^>]*>", text))


def pages() -> dict[str, str]:
    """Every page as it is sent, by its name."""
    models = {*PAGES.values(), "tensors"}
    return {
        name: bytes(page(name, model=name in models).body).decode()
        for name in ("index", "dashboard", "docs", *sorted(models))
    }


def test_every_file_is_used_and_every_used_file_exists() -> None:
    names = {file.name for file in FILES}
    text = "".join([*pages().values(), *(file.read_text() for file in FILES if file.suffix == ".js")])
    used = set(re.findall(r"/static/([\w.-]+)", text)) | set(re.findall(r'from "\./([\w.-]+)"', text))
    parts = {f"{name}.html" for name in (*pages(), "frame", "model")}
    assert used | parts == names


@pytest.mark.parametrize("name", pages())
def test_a_page_is_whole(name: str) -> None:
    html = pages()[name]
    assert html.startswith("<!doctype html>") and html.endswith("</html>\n")
    assert "<!-- " not in html  # every place in a frame is filled
    assert html.count("<title>") == html.count('<main id="main"') == html.count("</main>") == 1
    ids = re.findall(r'\sid="([\w-]+)"', html)
    assert len(ids) == len(set(ids))
    imported = set(re.findall(r'from "(\./[\w.]+)"', (STATIC / f"{name}.js").read_text()))
    assert {file[2:] for file in imported} <= set(re.findall(r'preload" href="/static/([\w.]+)"', html))


def test_all_of_it_together_is_small() -> None:
    assert sum(len(gzip.compress(sent(file))) for file in FILES) < MAX_PACKED


def test_comments_are_not_sent_and_lines_stay_where_they_are() -> None:
    for file in FILES:
        text, left = file.read_text().splitlines(), sent(file).decode().splitlines()
        assert len(text) == len(left)
        for line, kept in zip(text, left, strict=True):
            comment = re.match(r"\s*(//|/?\*)", line) and file.suffix in (".js", ".css")
            assert kept == line or (comment and not kept), line
        assert not re.search(rb"^\s*(//|/\*)", sent(file), re.M)


def schemes() -> dict[str, dict[str, str]]:
    """The custom colours of style.css in the light and the dark scheme."""
    css = (STATIC / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", body))
        for body in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    return {"light": light, "dark": light | dark}


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, by WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21, by WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_reach_the_contrast_of_wcag_aa(scheme: str) -> None:
    colours = schemes()[scheme]
    grounds = ("paper", "surface", "sunken")
    text = [(ink, ground) for ink in ("text", "soft", "accent") for ground in grounds]
    text += [("on-accent", "accent"), ("bad", "bad-paper"), ("paper", "bad")]
    text += [(ink, ground) for ink in ("good", "bad") for ground in ("paper", "surface")]
    for ink, ground in text:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for ink, ground in [("edge", "paper"), ("edge", "surface"), ("accent", "sunken")]:
        assert contrast(colours[ink], colours[ground]) >= 3, (ink, ground)
