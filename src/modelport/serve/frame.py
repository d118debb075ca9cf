"""What the site is made of: its files as they are sent, and pages in the frame that all have.

Knows the files in `static` and nothing of models.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'from "\./([\w.]+)\.js"')
_COMMENT = re.compile(rb"^[ \t]*(?://.*|/\*(?:[^*]|\*(?!/))*\*/)[ \t]*$", re.M)
_KINDS = {".js": "text/javascript", ".css": "text/css"}


def sent(file: Path) -> bytes:
    """A file as it is sent: scripts and style sheets without the comments that have lines of their own.

    Lines stay where they are, so that what a browser reports is found in the source.
    """
    data = file.read_bytes()
    if file.suffix not in _KINDS:
        return data
    return _COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), data)


class Files(StaticFiles):
    """The folder `static`, each file as `sent` has it."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 where the caller has it already."""
        file = Path(full_path)
        if file.suffix not in _KINDS:
            return super().file_response(full_path, stat_result, scope, status_code)
        data = sent(file)
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        response = Response(data, status_code, {"ETag": etag}, media_type=_KINDS[file.suffix])
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


def page(name: str, *, model: bool = False, status: int = 200) -> Response:
    """The page made of `static/NAME.html`, with its script NAME.js and, if there is one, NAME.css.

    Args:
        model: whether it is a model's page, which has its title above and its calls and card below.
    """
    return HTMLResponse(_html(name, model), status)


def _html(name: str, model: bool) -> str:
    title, _, body = (STATIC / f"{name}.html").read_text().partition("\n")
    if model:
        body = _filled("model", body=body)
    head = [title]
    if (STATIC / f"{name}.css").is_file():
        head.append(f'<link rel="stylesheet" href="/static/{name}.css">')
    # Named here, they are asked for at once, and not one after the other as each names the next.
    head += [
        f'<link rel="modulepreload" href="/static/{each}.js">' for each in sorted(_modules(name) - {name})
    ]
    head.append(f'<script type="module" src="/static/{name}.js"></script>')
    return _filled("frame", head="\n".join(head), name=name, body=body)


def _filled(frame: str, **parts: str) -> str:
    text = (STATIC / f"{frame}.html").read_text()
    for key, value in parts.items():
        text = text.replace(f"<!-- {key} -->", value.rstrip("\n"))
    return text


def _modules(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of a script and of all that it imports."""
    found |= {name}
    for other in _IMPORT.findall((STATIC / f"{name}.js").read_text()):
        if other not in found:
            found = _modules(other, found)
    return found
