"""The list, the page for pictures and the page for tensors, with models whose answers are obvious."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from ..colours import LABELS, served
from .conftest import EVIL, Watch

Visit = Callable[..., Page]


def test_the_list_names_every_model_and_leads_to_its_page(visit: Visit, repo: Path) -> None:
    page = visit("/")
    names = page.locator(".model h2").all_inner_texts()
    assert names == sorted(folder.name for folder in repo.iterdir())
    expect(page.locator(".state.ready")).to_have_count(len(names))
    page.get_by_role("link", name="colours").click()
    expect(page.locator("h1")).to_have_text("colours")
    page.get_by_role("link", name="Modelport").click()
    expect(page.locator(".model")).to_have_count(len(names))
    for link in page.locator(".foot a").all():
        assert page.request.get(link.evaluate("a => a.href")).ok


def test_pictures_chosen_and_sampled(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit("/models/colours")
    expect(page.locator("#about .facts")).to_contain_text("the network as packed on onnxruntime")
    for colour, file in pictures.items():
        page.set_input_files("#file", file)
        expect(page.locator("#top")).to_have_text(colour)
        expect(page.locator("#bars .best .name")).to_have_text(colour)
        assert (
            page.locator("#picture").evaluate("image => image.decode().then(() => image.naturalWidth)") == 24
        )
    thumbs = page.locator("#samples button").all()
    for thumb, colour in zip(thumbs, sorted(pictures), strict=True):
        thumb.click()
        expect(page.locator("#top")).to_have_text(colour)
    page.locator("summary").click()
    shown = json.loads(page.locator("#json").inner_text())
    assert shown["model"] == "colours" and shown["version"] == "2"
    assert page.locator("#timing").inner_text().startswith("round trip ")


def test_there_are_as_many_bars_as_answers(visit: Visit) -> None:
    page = visit("/models/colours")
    expect(page.locator("#bars .bar")).to_have_count(len(LABELS))


def test_json_with_a_number_in_brackets_fills_its_lines(visit: Visit) -> None:
    page = visit("/models/raw")
    text = page.evaluate(
        """import("/static/answer.js").then(({ pretty }) => pretty(Array(60).fill([[0]]), 40))"""
    )
    assert json.loads(text) == [[[0]]] * 60
    assert len(text.splitlines()) < 15 and max(map(len, text.splitlines())) <= 41


def test_versions_link_to_each_other(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit("/models/colours")
    expect(page.locator("#versions [aria-current]")).to_have_text("2")
    page.locator("#versions").get_by_role("link", name="1").click()
    expect(page.locator("#versions [aria-current]")).to_have_text("1")
    with page.expect_request("**/predict/colours/1"):
        page.set_input_files("#file", pictures["blue"])
    expect(page.locator("#top")).to_have_text("blue")
    assert json.loads(page.locator("#json").text_content() or "")["version"] == "1"


def test_the_camera_answers_until_it_is_stopped(visit: Visit) -> None:
    page = visit("/models/colours", permissions=["camera"])
    page.click("#camera")
    expect(page.locator("#top")).to_have_text("green")
    expect(page.locator("#camera")).to_have_text("Stop the camera")
    for _ in range(3):  # it goes on by itself
        with page.expect_response("**/predict/colours"):
            pass
    track = page.evaluate_handle("document.getElementById('video').srcObject.getTracks()[0]")
    assert track.evaluate("track => track.readyState") == "live"
    page.click("#camera")
    assert track.evaluate("track => track.readyState") == "ended"
    page.wait_for_load_state("networkidle")
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#prompt")).to_be_visible()


def test_without_a_secure_context_the_camera_is_explained(visit: Visit, url: str) -> None:
    page = visit("/models/colours")
    page.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page.reload(wait_until="networkidle")
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.locator("#no-camera")).to_contain_text("https")


def test_hostile_words_stay_words(visit: Visit, pictures: dict[str, Path], watch: Watch) -> None:
    page = visit("/models/hostile")
    page.set_input_files("#file", pictures["red"])
    expect(page.locator("#top")).to_have_text(f"red {EVIL}")
    assert EVIL in page.locator("#lead").inner_text()
    card = page.locator(".card")
    assert EVIL in card.locator("h3").inner_text()
    assert EVIL in card.locator("p code").inner_text()
    assert "<script>" in card.locator("blockquote").inner_text()
    assert card.locator("a").evaluate_all("links => links.map(a => a.href)") == ["https://example.org/a"]
    assert card.locator("li").all_inner_texts() == ["one more", "two", "first"]
    assert card.locator("td").all_inner_texts() == ["red", "1"]
    assert card.locator("pre").inner_text() == 'print("<b>")'
    assert card.locator("strong").inner_text() == "which colour"
    assert card.locator("img, script").count() == 0
    visit("/")
    assert page.evaluate("window.evil") is None


def test_tensors_run_and_are_refused_in_words(visit: Visit, watch: Watch) -> None:
    watch.allow(r"status of 400")
    page = visit("/models/raw")
    request = json.loads(page.input_value("#request"))
    assert request == {"inputs": {"x": [[[0] * 8] * 8] * 3}}
    page.click("#run")
    expect(page.locator("#outputs")).to_contain_text("logits")
    assert json.loads(page.locator("#outputs").inner_text()) == {"logits": [0, 0, 0]}
    request["inputs"]["x"][1] = [[1] * 8] * 8
    page.fill("#request", json.dumps(request))
    page.locator("#request").press("Control+Enter")
    expect(page.locator("#outputs")).to_contain_text("20")
    page.fill("#request", '{"inputs": {"x": "zeros(3, 8, 8)"}}')
    page.click("#run")
    expect(page.locator("#outputs")).not_to_contain_text("20")
    for text, words in (
        ("{", "not JSON"),
        ("[]", '"inputs"'),
        ('{"inputs": {"x": [1]}}', "expected float32[3, 8, 8]"),
    ):
        page.fill("#request", text)
        page.click("#run")
        expect(page.locator("#oops")).to_contain_text(words)
    page.click("#reset")
    page.click("#run")
    expect(page.locator("#oops")).to_be_hidden()


def test_the_call_with_tensors_works_as_it_stands(visit: Visit, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    page = visit("/models/raw")
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "request.json")
    shown = page.locator("#code").inner_text()
    run = subprocess.run(
        ["sh", "-c", shown], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(run.stdout)["answer"] == {"logits": [0, 0, 0]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/models/colours", "/models/raw", "/models/hostile", "/models/digits"])
def test_every_page_fits_a_narrow_screen(visit: Visit, repo: Path, path: str, scheme: str) -> None:
    if path.endswith("digits") and not (repo / "digits").is_dir():
        pytest.skip("the digits bundle is not in the package")
    page = visit(
        path, viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_server_that_goes_and_comes_back(
    visit: Visit, watch: Watch, repo: Path, pictures: dict[str, Path]
) -> None:
    watch.allow(r"ERR_CONNECTION|ERR_EMPTY_RESPONSE|503 ")  # 503 while it loads
    with served(repo / "colours" / "2") as (url, _):
        watch.origin = url
        page = visit(f"{url}/models/colours")
        page.set_input_files("#file", pictures["red"])
        expect(page.locator("#top")).to_have_text("red")
    page.set_input_files("#file", pictures["blue"])
    expect(page.locator("#lost")).to_contain_text("does not answer")
    with served(repo / "colours" / "2", "--port", str(urlsplit(url).port)):
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#top")).to_have_text("blue")  # what had no answer was sent again
        assert LABELS[2] == "blue"
        page.goto("about:blank")
