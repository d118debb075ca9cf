"""PAI-EAS signatures, against what the SDK computes."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from modelport.serve.guard.eas import signature, signer


def by_the_sdk(token: str, body: bytes, content_type: str, date: str, service: str) -> dict[str, str]:
    """The steps of eas_prediction 0.36, `PredictClient.generate_singaure`, in its own order."""
    md5 = hashlib.md5(body).hexdigest()
    auth = "%s\n%s\n%s\n%s\n%s" % ("POST", md5, content_type, date, f"/api/predict/{service}")  # noqa: UP031
    mac = hmac.new(bytearray(token, "utf-8"), bytearray(auth.strip(), "utf-8"), hashlib.sha1)
    return {
        "content-md5": md5,
        "date": date,
        "content-type": content_type,
        "authorization": "EAS %s" % base64.b64encode(mac.digest()).decode().strip(),  # noqa: UP031
    }


@pytest.mark.parametrize("service", ["digits", "digits/sub/path", "zahl-ä"])
def test_what_the_sdk_signs_is_known_and_by_whom(service: str) -> None:
    headers = by_the_sdk(
        "token", b"body", "application/octet-stream", "Mon, 01 Jun 2026 12:00:00 GMT", service
    )
    path = f"/api/predict/{service}"
    md5 = hashlib.md5(b"body").hexdigest()
    assert signer(headers, "POST", path, ["other", "token", "third"]) == (1, md5)
    assert signer(headers, "POST", path, ["other", "Token"]) is None
    assert signer(headers, "GET", path, ["token"]) is None
    assert signer(headers, "POST", path + "/x", ["token"]) is None
    assert signer({}, "POST", path, ["token"]) is None
    assert signer(headers | {"content-md5": md5.upper()}, "POST", path, ["token"]) == (1 - 1, md5)


def test_a_signature_without_a_digest_of_the_body_signs_no_body() -> None:
    for md5 in ("", "x", "0" * 31, "0" * 33):
        made = signature("token", "POST", md5, "", "", "/p")
        headers = {"authorization": f"EAS {made}", "content-md5": md5}
        assert signer(headers, "POST", "/p", ["token"]) is None
    forged = {"authorization": "EAS \udcff", "content-md5": "0" * 32, "date": "\udcff"}
    assert signer(forged, "POST", "/p\udcff", ["token"]) is None
