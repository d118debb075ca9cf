"""The page of the HTTP API: it shows what /openapi.json says, and its links lead where they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import Watch

Visit = Callable[[str], Page]

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(browser: Browser, url: str, watch: Watch) -> Iterator[Visit]:
    """Open a path of the server, and wait for the operations."""
    with browser.new_context() as context:

        def open_page(path: str) -> Page:
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.on("console", watch.console)
            page.on("pageerror", watch.error)
            page.on("request", watch.request)
            page.goto(url + path)
            page.locator(".call").first.wait_for()
            return page

        yield open_page


def test_every_operation_and_shape_is_on_the_page(visit: Visit) -> None:
    page = visit("/docs")
    document = page.request.get(page.url.replace("/docs", "/openapi.json")).json()
    calls = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    expect(page.locator(".call")).to_have_count(len(calls))
    expect(page.locator(".shape")).to_have_count(len(document["components"]["schemas"]))
    shown = zip(
        page.locator(".call .method").all_inner_texts(),
        page.locator(".call .path").all_inner_texts(),
        strict=True,
    )
    assert sorted(shown) == sorted(calls)
    tags = [tag["name"] for tag in document["tags"]]
    assert page.locator("#contents a").all_inner_texts() == [*tags, "Shapes"]


def test_an_address_opens_what_it_points_to_and_links_go_on_from_there(visit: Visit) -> None:
    page = visit("/docs#post_v2_models_by_name_infer")
    call = page.locator("#post_v2_models_by_name_infer")
    expect(call).to_have_attribute("open", "")
    for status in ("200", "400", "401", "404", "413", "415", "429", "503"):
        expect(call.get_by_role("cell", name=status, exact=True)).to_be_visible()
    call.get_by_role("link", name="InferRequest").click()
    shape = page.locator("#shape-InferRequest")
    expect(shape).to_have_attribute("open", "")
    expect(shape).to_contain_text("inputs: [InferInput]")
    shape.get_by_role("link", name="InferInput").click()
    expect(page.locator("#shape-InferInput")).to_be_in_viewport()


def test_it_fits_a_telephone(visit: Visit) -> None:
    page = visit("/docs#post_predict_by_name")
    page.set_viewport_size({"width": 360, "height": 700})
    expect(page.locator("#post_predict_by_name")).to_have_attribute("open", "")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
