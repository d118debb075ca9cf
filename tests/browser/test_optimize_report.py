"""The page that `optimize` writes, opened from its file in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.optimize.report import write_report

from ..optimize.reports import CHOSEN, made_up

pytest.importorskip("playwright", reason="the browser tests need playwright")

from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1200, 400], ids=["wide", "narrow"])
def test_the_report_is_read_without_a_server(browser: Browser, tmp_path: Path, width: int) -> None:
    write_report(tmp_path, made_up())
    asked: list[str] = []
    faults: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    try:
        page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda problem: faults.append(str(problem)))
        page.goto((tmp_path / "report.html").as_uri())
        assert page.locator("h1").inner_text() == f"squeezenet 1: {CHOSEN} is best"
        assert page.evaluate("document.querySelector('img').naturalWidth") > 1000
        # Nothing is wider than the screen, and no part of the page has to be scrolled sideways.
        assert (
            page.evaluate(
                "[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth"
                " || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX != 'visible').length"
            )
            == 0
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("tbody").count() == len(made_up().entries) - 1  # two were skipped, for one reason
        assert "90.0 to 110.0\nbatch 4" in page.locator("tbody.start").inner_text()
        why = page.locator("tbody.slower td.why").bounding_box()
        assert why is not None and why["width"] > 0.85 * (min(width, 1280) - 32)
        name = page.evaluate(
            "getComputedStyle(document.querySelector('tbody.slower td.n'), '::before').content"
        )
        assert ("latency" in name) is (
            width == 400
        )  # a figure is named beside it where the head is not shown
        assert page.locator("thead").is_visible() is (width != 400)
        assert page.locator("tbody.skipped code").all_inner_texts() == ["simplify", "unused"]
        chosen = page.locator("tbody.chosen")
        assert chosen.locator("details code").inner_text().endswith(f"2.report' {CHOSEN}")
        assert chosen.locator("details code").is_visible() and "<b>why</b>" in chosen.inner_text()
        assert page.locator("small.badge").all_inner_texts() == ["the same bits on wasm, x86_64-avx2"]
        slow = page.locator("tbody.slower")
        assert not slow.locator("details code").is_visible()
        slow.locator("summary").click()
        assert slow.locator("details code").is_visible() and "p 1 (McNemar)" in slow.inner_text()
        assert page.locator("tbody.skipped details").count() == 0
        assert faults == [] and set(asked) <= {"file", "data"}
    finally:
        page.close()
