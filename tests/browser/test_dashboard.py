"""The dashboard: real numbers from a real server, and what it makes of figures that are hard to come by."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from modelport.cli.main import run

from ..administration import added_key
from ..colours import picture, served
from .conftest import EVIL, Watch

Visit = Callable[..., Page]


def post(url: str, path: str, body: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(url + path, data=body), timeout=30) as reply:
        assert reply.status == 200


@contextmanager
def traffic(url: str, path: str) -> Iterator[list[int]]:
    """One request after the other until the block ends; how many were answered."""
    stop, done = threading.Event(), [0]
    body = picture("red")

    def ask() -> None:
        while not stop.is_set():
            post(url, path, body)
            done[0] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(30)


def number(text: str) -> float:
    """The number in front of a tile's or a cell's text."""
    return float(text.split()[0].replace(",", "").removesuffix("/s"))


def tile(page: Page, name: str) -> str:
    text: str = (
        page.locator("#tiles > div", has=page.get_by_text(name, exact=True)).locator("dd b").inner_text()
    )
    return text


BOTH_RATES = """() => {
  const tile = [...document.querySelectorAll("#tiles > div")].find(each => /Answered/i.test(each.innerText));
  return [document.querySelector(".cell.rate b").innerText, tile.querySelector("dd b").innerText];
}"""


def panel(page: Page, name: str) -> Any:
    return page.locator("#versions > section").filter(has=page.get_by_role("heading", name=name, exact=True))


def test_real_numbers_of_a_real_server(visit: Visit, repo: Path, watch: Watch) -> None:
    with served(repo / "colours" / "2") as (url, _):
        watch.origin = url
        page = visit(f"{url}/dashboard")
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#lead")).to_contain_text("1 model, 1 version · up ")
        assert float(tile(page, "Memory")) > 20
        with traffic(url, "/predict/colours") as done:
            expect(page.locator("#latency .key.p50 b")).to_contain_text("s")
            expect(page.locator(".cell.rate b")).not_to_have_text("0 /s")
            page.wait_for_timeout(4500)
            rate, answered = map(number, page.evaluate(BOTH_RATES))  # both of one drawing
            assert rate > 1 and answered == rate
            assert page.locator("#traffic path.line.answered").get_attribute("d")
        expect(page.locator(".facts")).to_contain_text(f"{done[0]:,} requests, {done[0]:,} rows")
        data = json.loads(page.request.get(f"{url}/api/dashboard").text())
        figures = data["versions"][0]["figures"]
        assert figures["answered"] == done[0]
        assert page.locator(".parts li").all_inner_texts()[3].startswith("net")
        expect(page.locator(".facts")).to_contain_text("as recorded, to the last digit")
        assert "Refused\nnone\n" in page.locator(".facts").inner_text()
        box = page.locator("#traffic svg").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + 20)
        expect(page.locator("#traffic .when")).to_contain_text("s ago")
        page.mouse.move(0, 0)
        expect(page.locator("#traffic .when")).to_have_text("")
        page.goto("about:blank")


def test_versions_that_nobody_wants_have_no_row(visit: Visit, repo: Path, watch: Watch) -> None:
    with served(repo) as (url, _):
        watch.origin = url
        page = visit(f"{url}/dashboard")
        colours = panel(page, "colours")
        expect(colours.locator(".version")).to_have_count(1)
        expect(colours.locator(".rest")).to_have_text("not loaded: 1")
        page.goto("about:blank")


def test_every_model_has_a_panel_and_its_versions(visit: Visit, repo: Path) -> None:
    page = visit("/dashboard")
    names = sorted(folder.name for folder in repo.iterdir())
    assert page.locator("#versions h2").all_inner_texts() == names
    colours = panel(page, "colours")
    expect(colours.locator(".version")).to_have_count(2)
    newest = colours.locator(".version").last
    expect(newest.locator(".facts")).to_be_hidden()
    newest.locator("summary").click()
    expect(newest.locator(".facts")).to_contain_text("Executors")
    expect(newest.locator(".facts")).to_contain_text("the network as packed on onnxruntime")
    page.wait_for_timeout(2500)
    expect(newest.locator(".facts")).to_be_visible()  # another look at the server closes nothing
    page.get_by_role("link", name="colours").click()
    expect(page.locator("h1")).to_have_text("colours")


def test_a_rollout_is_shown_with_its_canary_and_its_shadow(
    visit: Visit, repo: Path, watch: Watch, tmp_path: Path
) -> None:
    shutil.copytree(repo / "colours", tmp_path / "repo" / "colours")
    place = str(tmp_path / "repo" / "colours")
    assert run(["rollout", place, "--stable", "1", "--canary", "2", "--weight", "0.1", "--shadow", "2"]) == 0
    with served(tmp_path / "repo") as (url, _):
        watch.origin = url
        page = visit(f"{url}/dashboard")
        expect(page.locator(".version")).to_have_count(2)
        expect(page.locator(".version").nth(0).locator(".badges")).to_have_text("stable")
        badges = page.locator(".version").nth(1).locator(".badge")
        expect(badges).to_have_text(["canary 10 %", "shadow 100 %"])
        for _ in range(30):
            post(url, "/predict/colours", picture("blue"))
        facts = page.locator(".version").nth(1).locator(".facts")
        expect(facts).to_contain_text("100 % the same label")
        page.goto("about:blank")


TILE_AND_ROWS = """() => {
  const tile = [...document.querySelectorAll("#tiles > div")].find(each => /Answered/i.test(each.innerText));
  const rates = document.querySelectorAll(".cell.rate b");
  return [tile.querySelector("dd b"), ...rates].map(each => each.innerText);
}"""


def test_the_headline_is_what_callers_got_and_a_shadow_has_its_row(
    visit: Visit, repo: Path, watch: Watch, tmp_path: Path
) -> None:
    shutil.copytree(repo / "colours", tmp_path / "repo" / "colours")
    place = str(tmp_path / "repo" / "colours")
    assert run(["rollout", place, "--stable", "1", "--shadow", "2"]) == 0
    with served(tmp_path / "repo") as (url, _):
        watch.origin = url
        page = visit(f"{url}/dashboard")
        expect(page.locator(".version")).to_have_count(2)
        with traffic(url, "/predict/colours") as done:
            expect(page.locator(".version").nth(1).locator(".cell.rate b")).not_to_have_text("0 /s")
            page.wait_for_timeout(4500)
            answered, stable, shadow = map(number, page.evaluate(TILE_AND_ROWS))
            assert answered == stable > 1 and shadow > 1
        data = json.loads(page.request.get(f"{url}/api/dashboard").text())
        one, two = (version["figures"] for version in data["versions"])
        assert (one["answered"], sum(one["shadow"]), two["answered"]) == (done[0], 0, sum(two["shadow"]))
        assert two["answered"] > 1
        page.goto("about:blank")


FIGURES = Callable[[dict[str, Any]], dict[str, Any]]


def with_figures(page: Page, change: FIGURES) -> None:
    """Let the page see the server's figures changed."""

    def answer(route: Route) -> None:
        data = change(route.fetch().json())
        route.fulfill(body=json.dumps(data), content_type="application/json")

    page.route("**/api/dashboard", answer)
    page.reload()


def test_a_server_without_models_says_so(visit: Visit) -> None:
    page = visit("/dashboard")
    with_figures(page, lambda data: data | {"versions": []})
    expect(page.locator("#versions")).to_have_text("No model is served here yet.")
    expect(page.locator("#lead")).to_contain_text("0 models, 0 versions")


def test_what_is_out_of_order_is_said(visit: Visit) -> None:
    def change(data: dict[str, Any]) -> dict[str, Any]:
        failed, odd = data["versions"][:2]
        failed |= {
            "state": "UNAVAILABLE",
            "failed": True,
            "reason": f"golden case 4 differs {EVIL}",
            "answers": False,
        }
        failed["figures"]["name"] = f"hostile {EVIL}"
        odd["state"], odd["figures"]["version"] = "LOADING", EVIL
        odd["figures"] |= {"refused": {"queue_full": 3}, "failed": {"model": 2}, "waiting": 7}
        # What JSON makes of an infinite difference.
        odd["figures"]["gauges"] = {
            "golden_replay_ok": 0,
            "golden_replay_difference": None,
            "golden_replay_time": data["time"] - 90,
        }
        plan = {"stable": "1", "canary": {"version": EVIL}}
        rollout = {odd["figures"]["name"]: {"plan": plan, "problem": f"version {EVIL} is not ready"}}
        return data | {"versions": [failed, odd], "rollout": rollout}

    page = visit("/dashboard")
    with_figures(page, change)
    expect(page.locator("#versions > section")).to_have_count(2)
    first, second = page.locator("#versions > section").all()
    expect(first.locator("h2")).to_have_text(f"hostile {EVIL}")
    expect(first.locator(".state.failed")).to_have_text("failed")
    expect(first.locator(".version .why")).to_have_text(f"golden case 4 differs {EVIL}")
    expect(first.locator(".cell.rate")).to_be_hidden()
    expect(second.locator(".state.busy")).to_have_text("loading")
    expect(second.locator(".said.why")).to_have_text(f"version {EVIL} is not ready")
    expect(second.locator(".badge")).to_have_text(["canary 0 %"])
    facts = second.locator(".facts")
    expect(facts).to_contain_text("queue full 3")
    expect(facts).to_contain_text("model 2")
    expect(facts).to_contain_text("not as recorded, off by more than a number says, 1 min 30 s ago")
    assert tile(page, "Waiting") == "7"
    assert page.evaluate("window.evil") is None


def test_a_version_that_was_let_go_is_no_failure(visit: Visit) -> None:
    def change(data: dict[str, Any]) -> dict[str, Any]:
        old = data["versions"][0]
        old |= {"state": "UNAVAILABLE", "failed": False, "reason": "a newer version took over"}
        return data | {"versions": [old]}

    page = visit("/dashboard")
    with_figures(page, change)
    version = page.locator(".version")
    expect(version.locator(".state.resting")).to_have_text("not loaded")
    expect(version.locator(".why")).to_have_text("a newer version took over")
    colour = "e => getComputedStyle(e).color"
    soft = page.locator("#lead").evaluate(colour)
    assert version.locator(".state").evaluate(colour) == soft
    assert version.locator(".why").evaluate(colour) == soft


def test_a_key_opens_the_figures(browser: Browser, repo: Path, tmp_path: Path) -> None:
    key = added_key(tmp_path / "keys.json", "watcher", "metrics")
    keys = str(tmp_path / "keys.json")
    with served(repo / "raw", "--keys", keys) as (url, _), browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/dashboard")
        expect(page.locator("#door")).to_be_visible()
        expect(page.locator("#all")).to_be_hidden()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#oops")).to_contain_text("not known")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        expect(page.locator("#versions h2")).to_have_text("raw")
        expect(page.locator("#door")).to_be_hidden()
        assert key not in page.content()
        page.reload()
        expect(page.locator("#versions h2")).to_have_text("raw")


def test_a_server_that_starts_again_is_followed(visit: Visit, watch: Watch, repo: Path) -> None:
    watch.allow(r"ERR_CONNECTION|ERR_EMPTY_RESPONSE")
    model = repo / "colours" / "2"
    with served(model) as (url, _):
        watch.origin = url
        for _ in range(5):
            post(url, "/predict/colours", picture("red"))
        page = visit(f"{url}/dashboard")
        expect(page.locator(".facts")).to_contain_text("5 requests")
    expect(page.locator("#lost")).to_contain_text("does not answer")
    expect(page.locator("#live")).to_have_text("no answer")
    with served(model, "--port", str(urlsplit(url).port)):
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator(".facts")).to_contain_text("0 requests")
        post(url, "/predict/colours", picture("red"))
        expect(page.locator(".facts")).to_contain_text("1 request, 1 row")
        page.goto("about:blank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800])
def test_it_fits_a_narrow_screen(visit: Visit, scheme: str, width: int) -> None:
    view = {"width": width, "height": 700}
    page = visit("/dashboard", viewport=view, is_mobile=True, has_touch=True, color_scheme=scheme)
    for summary in page.locator("summary").all():
        if not summary.locator("..").evaluate("details => details.open"):
            summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
