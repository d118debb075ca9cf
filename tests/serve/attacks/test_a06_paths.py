"""A6: names in a path are names. No spelling of `..` leads to a file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from modelport.bundle.store import Bundle
from modelport.errors import BundleError

from .wire import Target, head

UP = [
    "..",
    "../..",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f..%2f",
    "%252e%252e%252f",
    "..%252f",
    "..\\",
    "..%5c..%5c",
    "%c0%ae%c0%ae%c0%af",
    "%uff0e%uff0e",
    "....//",
    "..;/",
    "..%00",
    "%00",
    ".",
    "%2f",
    "//",
    "\\\\host\\share",
    "C:\\",
    "file:",
    "~",
    "~root",
    "%e2%80%ae",
    "..%ef%bc%8f",
    "\u2025",
    "*",
    "?",
    "#",
    "$HOME",
    "`id`",
    "$(id)",
    "|id",
    "{{7*7}}",
    "%0d%0aX-Evil:%20yes",
    "a" * 3000,
]
GOALS = [
    "",
    "etc/passwd",
    "modelport.json",
    "colours/1/modelport.json",
    "app.py",
    "proc/self/environ",
    "net.onnx",
]
PLACES = [
    "/predict/{}",
    "/predict/colours/{}",
    "/v2/models/{}",
    "/v2/models/colours/versions/{}",
    "/models/{}",
    "/models/colours/{}",
    "/api/models/{}",
    "/api/models/colours/{}",
    "/api/models/colours/1/samples/{}",
    "/static/{}",
    "/{}",
]
SECRETS = [b"root:", b"PATH=", b"from __future__", b'"files"', b"GlobalAveragePool"]


@pytest.mark.parametrize("place", PLACES)
def test_no_way_up(target: Target, place: str) -> None:
    requests, paths = [], []
    for up in UP:
        for goal in GOALS:
            for joined in {f"{up}{goal}", f"{up}/{goal}", f"colours/{up}/{goal}"}:
                text = joined if joined.isascii() else quote(joined)
                path = place.format(text.replace(" ", "%20"))
                paths.append(path)
                requests.append(
                    head("POST" if path.startswith("/predict") else "GET", path, content_length=0)
                )
    for start in range(0, len(paths), 50):
        sent = paths[start : start + 50]
        for path, request in zip(sent, requests[start : start + 50], strict=True):
            method = "POST" if path.startswith("/predict") else "GET"
            reply = target.one(request, method=method)
            assert reply.status in (200, 301, 302, 307, 308, 400, 404, 405, 414, 415), (path, reply)
            assert not [secret for secret in SECRETS if secret in reply.body], (path, reply.body[:300])
            assert "x-evil" not in reply.headers
            if reply.status == 200:
                assert b"<html" in reply.body or reply.body.startswith((b'{"', b"{")), path
            if reply.status in (301, 302, 307, 308):  # never to another host
                assert re.match(r"/(?!/)|http://127\.0\.0\.1[:/]", reply.headers["location"])


def test_a_repository_reaches_no_file_through_a_link(repo: Path, tmp_path: Path) -> None:
    """A bundle whose file is a link is refused when it is opened (more in tests/bundle)."""
    shutil.copytree(repo / "colours" / "1", tmp_path / "colours" / "1")
    labels = tmp_path / "colours" / "1" / "labels.txt"
    labels.unlink()
    labels.symlink_to("/etc/passwd")
    with pytest.raises(BundleError):
        Bundle.open(tmp_path / "colours" / "1").verify_files()
