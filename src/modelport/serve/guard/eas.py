"""PAI-EAS signatures: an HMAC of the request's head under the token, and the MD5 its body must have.

The SDK (`eas-prediction`, PredictClient) signs the method, the body's MD5, the content type, the date and the
path. The date is local time labelled GMT, so that nothing can be concluded from it, and a signed request
can be sent again by whoever sees it, as a token can: only TLS hides either.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterable
from typing import Protocol

SCHEME = "EAS "
MD5_DIGITS = 32


class Headers(Protocol):
    """A request's headers, by lower-case name."""

    def get(self, name: str, /) -> str | None:
        """The value, or None."""


def signature(token: str, method: str, md5: str, content_type: str, date: str, path: str) -> str:
    """What the SDK writes behind `EAS `."""
    text = "\n".join((method, md5, content_type, date, path)).strip()
    # SHA-1 is the protocol's choice; as an HMAC it is not broken.
    return b64encode(hmac.digest(token.encode(), text.encode("utf-8", "surrogateescape"), "sha1")).decode()


def signer(headers: Headers, method: str, path: str, tokens: Iterable[str]) -> tuple[int, str] | None:
    """Which of `tokens` signed this request, by its place, and the MD5 that the body must have.

    Args:
        path: as it stands in the request line, without the query.
    """
    value, md5 = headers.get("authorization") or "", (headers.get("content-md5") or "").lower()
    if not value.startswith(SCHEME) or len(md5) != MD5_DIGITS:
        return None
    given = value[len(SCHEME) :].strip().encode("utf-8", "surrogateescape")
    content_type, date = headers.get("content-type") or "", headers.get("date") or ""
    found = None
    for place, token in enumerate(tokens):
        right = signature(token, method, md5, content_type, date, path).encode()
        if hmac.compare_digest(right, given):
            found = place, md5
    return found
