"""A server that asks for keys: the pages open, and ask the visitor for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..administration import added_key
from ..colours import served
from .conftest import Visit, Watch


@pytest.fixture(scope="module")
def guarded(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a server with keys, and a key."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    key = added_key(path, "visitor", "infer")
    with served(repo, "--keys", str(path)) as (address, _):
        yield address, key


@pytest.fixture
def url(guarded: tuple[str, str]) -> str:
    """In place of the server without keys."""
    return guarded[0]


def test_a_page_asks_for_a_key_and_works_with_it(
    visit: Visit, watch: Watch, guarded: tuple[str, str]
) -> None:
    watch.allow("401")
    page = visit("/models/colours", filled="#door")
    assert "needs a key" in page.locator("#oops").inner_text()
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.locator("#oops", has_text="not known here").wait_for()
    page.fill("#key", guarded[1])
    page.keyboard.press("Enter")
    thumb = page.locator("#samples button").first
    thumb.wait_for()
    page.wait_for_function("document.querySelector('#samples img').naturalWidth > 0")
    thumb.click()
    page.locator("#answer:not(.idle)").wait_for()
    assert page.locator("#top").inner_text() in ("red", "green", "blue")
    # Another tab knows nothing of it, and the key is in no address.
    assert guarded[1] not in page.url
    assert page.evaluate("localStorage.length") == 0
