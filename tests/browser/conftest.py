"""A real Chromium on the pages of the real server.

Every page is watched: an error on its console, an exception, or a request that leaves the server's origin
fails the test, unless the test says beforehand which error it causes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..colours import LABELS, pack_colours, picture, served, write_network

pytest.importorskip("playwright", reason="the browser tests need playwright")

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The camera is Chromium's own test picture: mostly green.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
EVIL = '<img src="/evil" onerror="window.evil=1">'
CARD = f"""---
tags: {EVIL}
---
# Colours {EVIL}

Says **which colour** a picture has *most* of; see [the site](https://example.org/a), [not
this](javascript:evil()),
![a picture](https://example.org/x.png) and `code {EVIL}`.

- one
  more
- two

1. first

| colour | pictures |
|---|---|
| red | 1 |

```python
print("<b>")
```

> quoted <script>window.evil=1</script>
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a page needs a browser."""
    for item in items:
        if "visit" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


# Until the package is done and no longer: Playwright's synchronous interface keeps an event loop running
# in this thread, and asynchronous tests elsewhere need it free.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; the test skips where there is none."""
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no Chromium at {CHROMIUM} (set CHROMIUM)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with a model for each kind of page, one of them with hostile words."""
    import modelport
    from modelport.cli.demo import DIGITS

    folder = tmp_path_factory.mktemp("pages")
    pack_colours(folder, version="1")
    repo = pack_colours(folder, version="2")
    (folder / "card.md").write_text(CARD)
    modelport.pack(
        folder / "colours.onnx",
        out=repo,
        name="hostile",
        recipe=folder / "colours.toml",
        labels=[f"{label} {EVIL}" for label in LABELS],
        card=folder / "card.md",
        description=f"Colours {EVIL}",
        golden=folder / "photos",
    )
    modelport.pack(write_network(folder / "raw.onnx"), out=repo, name="raw", recipe="raw")
    if DIGITS.is_dir():
        shutil.copytree(DIGITS, repo / "digits" / DIGITS.name)
    return repo


@pytest.fixture(scope="package")
def url(repo: Path) -> Iterator[str]:
    """The address of the real server with `repo`."""
    with served(repo, "--versions", "all") as (address, _):
        yield address


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """Picture files by their colour."""
    files = {colour: tmp_path / f"{colour}.png" for colour in LABELS}
    for colour, file in files.items():
        file.write_bytes(picture(colour))
    return files


class Watch:
    """What a page did that it should not have."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.allowed: list[str] = []
        self.faults: list[str] = []

    def allow(self, pattern: str) -> None:
        """The test causes console errors that match `pattern`."""
        self.allowed.append(pattern)

    def console(self, message: ConsoleMessage) -> None:
        """Chromium also reports every refused request and breach of the content policy here."""
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def error(self, problem: Any) -> None:
        """An exception that nothing caught."""
        self.faults.append(f"exception: {problem}")

    def request(self, request: Request) -> None:
        """A request, which may only go to the server."""
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.faults.append(f"request to {request.url}")

    def unexpected(self) -> list[str]:
        """The faults that no pattern allows."""
        return [f for f in self.faults if not any(re.search(pattern, f) for pattern in self.allowed)]


Visit = Callable[..., Page]


@pytest.fixture
def watch(url: str) -> Iterator[Watch]:
    """Judges every page of the test when it ends."""
    watched = Watch(url)
    yield watched
    assert watched.unexpected() == []


@pytest.fixture
def visit(browser: Browser, url: str, watch: Watch) -> Iterator[Visit]:
    """Open a path of the server in a fresh browser context; options are Playwright's for a context."""
    contexts: list[BrowserContext] = []

    def open_page(path: str, *, filled: str = "#versions > *, .model", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", watch.console)
        page.on("pageerror", watch.error)
        page.on("request", watch.request)
        page.goto(path if "://" in path else url + path)
        # What the page asked the server for has come when one of these is filled.
        page.locator(filled).first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def digits(visit: Visit, repo: Path) -> Callable[..., Page]:
    """Open the page of the digits model; the test skips where the bundle is not in the package."""
    if not (repo / "digits").is_dir():
        pytest.skip("the digits bundle is not in the package")

    def open_page(**options: Any) -> Page:
        return visit("/models/digits", **options)

    return open_page
