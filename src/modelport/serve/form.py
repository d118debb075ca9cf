"""Where in a form's bytes its one file lies, so that a picture in a form goes the short way too."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MAX_PARTS = 1024
"""Parts of a form. A parser that must look at each boundary takes 40 ms for a megabyte of them."""


class SeveralParts(Exception):
    """The form holds more than one part."""


class _Parts:
    """What a parser finds in a body that is handed to it whole."""

    def __init__(self) -> None:
        self.count = 0
        self.ended = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.data: list[tuple[int, int]] = []
        self._name = b""
        self._value = b""

    def begin(self) -> None:
        self.count += 1
        if self.count > 1:
            raise SeveralParts

    def end(self) -> None:
        self.ended = True

    def field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self.headers.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def piece(self, data: bytes, start: int, end: int) -> None:
        self.data.append((start, end))


def only_file(body: bytes, kind: bytes) -> tuple[int, int] | None:
    """Start and end of the file in a multipart form that holds a file and nothing else.

    Args:
        body: the whole form.
        kind: its Content-Type.

    Returns:
        None for every other form, malformed ones among them: `body.multipart_item` reads those and says
        what is wrong.
    """
    boundary = boundary_of(kind)
    if not boundary or too_many_parts(body, boundary):
        return None
    parts = _Parts()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.field,
                "on_header_value": parts.value,
                "on_header_end": parts.header_end,
                "on_part_data": parts.piece,
                "on_end": parts.end,
            },
        )
        parser.write(body)
    except (FormParserError, SeveralParts):
        return None
    if not parts.count or not parts.ended or not _is_file(parts.headers):
        return None
    for (_, end), (start, _) in zip(parts.data, parts.data[1:], strict=False):
        if end != start:
            return None
    return (parts.data[0][0], parts.data[-1][1]) if parts.data else None


def boundary_of(kind: bytes) -> bytes:
    """What stands between a form's parts, by its Content-Type; empty where that does not say it."""
    return parse_options_header(kind)[1].get(b"boundary", b"")


def too_many_parts(body: bytes, boundary: bytes) -> bool:
    """Whether a form's boundary occurs more often than `MAX_PARTS` parts need it; not where it has none."""
    return boundary != b"" and body.count(b"--" + boundary) > MAX_PARTS + 1


def _is_file(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a part is a file by its Content-Disposition, which must be there once."""
    found = [value for name, value in headers if name == b"content-disposition"]
    if len(found) != 1:
        return False
    disposition, options = parse_options_header(found[0])
    return disposition == b"form-data" and b"filename" in options and b"name" in options
