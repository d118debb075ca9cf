"""A tracking session from a page in a real Chromium: its own origin's, and another's."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..boxes import pack_boxes, picture_with
from ..colours import served

pytest.importorskip("playwright", reason="the browser tests need playwright")

from playwright.sync_api import Browser

TALK = """async ([host, picture]) => await new Promise(done => {
  const said = [];
  const socket = new WebSocket(`ws://${host}/track/boxes`);
  socket.onerror = () => done("refused");
  socket.onmessage = event => {
    said.push(JSON.parse(event.data).type);
    if (said.length == 1) socket.send(Uint8Array.from(atob(picture), each => each.charCodeAt(0)));
    if (said.length == 2) socket.send('{"end": true}');
  };
  socket.onclose = event => done([...said, event.code]);
})"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repo: Path = pack_boxes(tmp_path_factory.mktemp("tracked"))
    with served(repo, "--executors", "1") as (url, _):
        yield url


@pytest.mark.parametrize("own", [True, False], ids=["its own page", "another's page"])
def test_only_the_servers_own_pages_open_a_session(browser: Browser, tracked: str, own: bool) -> None:
    """The page's content security policy lets its own server through, and the server lets nobody else in."""
    picture = base64.b64encode(picture_with([("red", 40, 30, 120, 90)])).decode()
    page = browser.new_page()
    try:
        page.goto(f"{tracked}/" if own else "about:blank")
        found = page.evaluate(TALK, [tracked.removeprefix("http://"), picture])
    finally:
        page.close()
    assert found == (["ready", "tracks", "summary", 1000] if own else "refused")
