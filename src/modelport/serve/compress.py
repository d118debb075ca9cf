"""Compressed bodies: gzip and deflate, bytes to bytes, with a bound on what comes out.

Knows the two codings and the two header fields that ask for them; knows nothing of requests or models.
All of it is plain CPU work: a caller on an event loop runs it in a thread above the two sizes below
(up to them it takes about a millisecond at the worst, measured).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from ..errors import InputError, TooLarge, UnsupportedMedia

MAX_RATIO = 1032
"""Bytes that deflate makes of one, at most."""
UNPACK_INLINE = 1 << 10
"""Compressed bytes that are unpacked on the event loop."""
PACK_INLINE = 32 << 10
"""Bytes that are compressed on the event loop."""
MIN_BYTES = 1 << 10
"""Replies below this are sent as they are: the header would eat the gain."""
MAX_MEMBERS = 64
"""Members of one gzip body; each may be empty, so that their number has to be bounded too."""

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
# Level 1: on JSON it gives all but 2 % of what level 6 gives, five times as fast.
_LEVEL = 1
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_TEXT = frozenset(
    ["application/json", "application/javascript", "application/xml", "image/svg+xml", "image/x-icon"]
)
_BINARY = "application/octet-stream"
_SAMPLE = 4 << 10


def coding_of(encoding: str) -> str | None:
    """`gzip`, `deflate`, or None for a body that is not compressed.

    Args:
        encoding: the value of Content-Encoding; several fields joined by commas.

    Raises:
        UnsupportedMedia: another coding, or one on top of another.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name not in _NAMES:
        what = "a chain of codings" if "," in name else "a coding"
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40]!r} is {what} that is not read here",
            hint="send gzip or deflate, or the body as it is",
        )
    return _NAMES[name]


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before it was compressed; `encoding` as `coding_of` takes it.

    gzip may have several members. deflate is what RFC 9110 calls so (a zlib stream), or the bare deflate
    stream that some clients send under that name.

    Raises:
        TooLarge: it unpacks to more than `limit` bytes; no more than that is ever held.
        InputError: damaged, cut short, or followed by something else.
        UnsupportedMedia: as `coding_of`.
    """
    coding = coding_of(encoding)
    if coding is None:
        return body
    if coding == "deflate":
        return _member(body, _ZLIB if _is_zlib(body) else _RAW, coding, limit, last=True)[0]
    parts: list[bytes] = []
    for _ in range(MAX_MEMBERS):
        part, body = _member(body, _GZIP, coding, limit, before=sum(map(len, parts)), last=False)
        parts.append(part)
        if not body:
            return b"".join(parts)
        if not body.startswith(b"\x1f\x8b"):
            raise InputError(f"the gzip body is followed by {len(body)} bytes that are not gzip")
    raise InputError(f"the gzip body has more than {MAX_MEMBERS} members")


def _member(
    body: bytes, wbits: int, coding: str, limit: int, *, before: int = 0, last: bool
) -> tuple[bytes, bytes]:
    """One compressed stream's content, `before` bytes of others before it, and what follows it (nothing may
    where `last`)."""
    stream = zlib.decompressobj(wbits)
    try:
        # Never 0, which would mean no limit: one byte more than allowed tells that there is more.
        data = stream.decompress(body, limit - before + 1)
    except zlib.error as problem:
        raise InputError(f"the {coding} body is damaged: {problem}") from problem
    if len(data) > limit - before:
        raise TooLarge(
            f"the {coding} body unpacks to more than the {limit:,} bytes that are read",
            hint="send less at once, or serve with a larger --max-body",
        )
    if not stream.eof:
        raise InputError(f"the {coding} body is cut short")
    if last and stream.unused_data:
        raise InputError(f"the {coding} body is followed by {len(stream.unused_data)} bytes")
    return data, stream.unused_data


def _is_zlib(body: bytes) -> bool:
    """Whether a body starts as RFC 1950 says; no compressor writes a bare stream that does."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def choose_encoding(accept: str | None) -> str | None:
    """The coding for a reply, by the request's Accept-Encoding: `gzip`, `deflate`, or None for none.

    The highest `q` wins, gzip before deflate where they are equal; what is liked less than `identity`,
    refused (`q=0`) or malformed is not used.
    """
    if not accept:
        return None
    wishes = dict(_wishes(accept))
    rest = wishes.get("*", 0.0)
    gzip, deflate = wishes.get("gzip", rest), wishes.get("deflate", rest)
    best, name = (gzip, "gzip") if gzip >= deflate else (deflate, "deflate")
    return name if best > 0 and best >= wishes.get("identity", 0.0) else None


def _wishes(accept: str) -> Iterable[tuple[str, float]]:
    for item in accept.lower().split(","):
        name, _, parameter = item.partition(";")
        key, _, value = parameter.partition("=")
        liked = 1.0 if not parameter else quality(value.strip()) if key.strip() == "q" else 0.0
        yield _NAMES.get(name.strip(), name.strip()), liked


def quality(text: str) -> float:
    """A `q` by RFC 9110 (0 to 1, at most three decimals); anything else counts as a refusal."""
    whole, _, decimals = text.partition(".")
    digits = whole in ("0", "1") and len(decimals) <= 3 and (not decimals or decimals.isdecimal())
    value = float(text) if digits and text.isascii() else 0.0
    return value if value <= 1 else 0.0


def compress(body: bytes, encoding: str) -> bytes:
    """The body in a coding that `choose_encoding` gave; the same body gives the same bytes."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    return stream.compress(body) + stream.flush()


def worth_it(body: bytes, media_type: str | None) -> bool:
    """Whether a reply is long enough and of a kind that gets smaller.

    Text does. Tensors in binary may: their first 4 KiB are tried, and must lose a tenth.
    """
    if len(body) < MIN_BYTES:
        return False
    if media_type == _BINARY:
        return len(zlib.compress(body[:_SAMPLE], _LEVEL)) < 0.9 * min(len(body), _SAMPLE)
    return compressible(media_type)


def compressible(media_type: str | None) -> bool:
    """Whether replies of a media type (without parameters) may come compressed, so that they vary."""
    kind = media_type or ""
    return kind.startswith("text/") or kind in _TEXT or kind.endswith("+json") or kind == _BINARY
