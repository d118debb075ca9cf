"""A page of the site: the frame that all have, with what is the page's own put in.

Knows the files in `static` and nothing of models.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from starlette.responses import HTMLResponse, Response

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'from "\./([\w.]+)\.js"')


def page(name: str, *, model: bool = False, status: int = 200) -> Response:
    """The page made of `static/NAME.html`, with its script NAME.js and, if there is one, NAME.css.

    Args:
        model: whether it is a model's page, which has its title above and its calls and card below.
    """
    return HTMLResponse(_html(name, model), status)


@cache
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
