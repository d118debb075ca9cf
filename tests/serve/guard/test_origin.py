"""A16: other people's pages. What a browser says of them, and what is made of it."""

from __future__ import annotations

import pytest

from modelport.errors import Forbidden, UsageError
from modelport.serve.guard.origin import allowed_host, check_origin, check_site, cors_headers, preflight

OURS = [
    "localhost",
    "LOCALHOST:8000",
    "localhost.",
    "app.localhost:1",
    "127.0.0.1",
    "127.9.9.9:8000",
    "[::1]:8000",
]
THEIRS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example#localhost",
    "localhost:8000@evil.example",
    "0.0.0.0:8000",
    "192.168.1.10",
    "[::]",
    "[::ffff:192.168.1.1]",
    "localhost:port",
    "localhost:",
    "localhost:999999",
    "",
    " localhost",
    "localhost\n",
    "localhost,evil.example",
    "[::1",
    "lоcalhost",  # a Cyrillic letter
]


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1"])
def test_a_server_on_the_loopback_answers_to_its_own_names_alone(bound: str) -> None:
    for host in OURS:
        assert allowed_host(host, bound), host
    for host in THEIRS:
        assert not allowed_host(host, bound), host
    assert allowed_host(None, bound)


def test_a_server_for_others_answers_to_any_name_unless_told_which() -> None:
    assert allowed_host("models.example", "0.0.0.0") and allowed_host("192.168.1.10:80", "192.168.1.10")
    assert not allowed_host("a b", "0.0.0.0") and not allowed_host("", "0.0.0.0")
    names = ("models.example",)
    assert allowed_host("Models.Example:443", "0.0.0.0", names)
    assert allowed_host("models.example", "127.0.0.1", names)  # behind a proxy on the same machine
    assert allowed_host("127.0.0.1:8000", "0.0.0.0", names)  # the machine's own health check
    assert not allowed_host("evil.example", "0.0.0.0", names)
    assert not allowed_host("evil.models.example", "0.0.0.0", names)


FROM_ELSEWHERE = [
    {"origin": "https://evil.example", "host": "127.0.0.1:8000"},
    {"origin": "null", "host": "127.0.0.1:8000"},
    {"origin": "http://localhost:3000", "host": "localhost:8000"},
    {"origin": "http://127.0.0.1:8000.evil.example", "host": "127.0.0.1:8000"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://[", "host": "127.0.0.1:8000"},
    {"origin": "", "host": "127.0.0.1:8000"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://localhost:3000", "host": "localhost:8000"},
    # A browser that says cross-site is believed even where the rest looks like home.
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"},
    {"sec-fetch-site": "made up", "origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"},
]
FROM_HERE = [
    {},  # no browser
    {"host": "127.0.0.1:8000"},
    {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"},
    {"sec-fetch-site": "none"},
    {"origin": "http://Models.example", "host": "models.example"},
    # A proxy that ends TLS and changes Host.
    {"sec-fetch-site": "same-origin", "origin": "https://models.example", "host": "10.0.0.5:8000"},
    {"sec-fetch-site": "cross-site", "origin": "https://app.example", "host": "models.example"},
]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "MADE-UP"])
def test_pages_of_other_origins_change_nothing(method: str) -> None:
    allowed = ("https://app.example",)
    for headers in FROM_ELSEWHERE:
        with pytest.raises(Forbidden, match="--cors-origin"):
            check_site(method, headers, allowed)
    for headers in FROM_HERE:
        check_site(method, headers, allowed)
    with pytest.raises(Forbidden):
        check_site(method, FROM_HERE[-1], ())


def test_reading_is_left_to_the_browser_which_shows_foreign_pages_nothing() -> None:
    for headers in FROM_ELSEWHERE:
        check_site("GET", headers)


def test_without_cors_no_reply_says_that_anybody_may_read_it() -> None:
    assert cors_headers("https://app.example", ()) == []
    assert preflight({"origin": "https://app.example"}, ()) == []


def test_with_cors_exactly_the_origins_given_may_read() -> None:
    origins = (check_origin("https://app.example"), check_origin("http://localhost:3000"))
    for origin in origins:
        assert ("access-control-allow-origin", origin) in cors_headers(origin, origins)
        assert ("access-control-allow-methods", "GET, POST, PUT, DELETE") in preflight(
            {"origin": origin}, origins
        )
    for other in (
        "https://app.example.evil",
        "https://APP.example",
        "http://app.example",
        "null",
        "*",
        "",
        None,
    ):
        assert cors_headers(other, origins) == [("vary", "origin")]
        headers = {} if other is None else {"origin": other}
        assert preflight(headers, origins) == [("vary", "origin")]
    names = {name for name, _ in preflight({"origin": origins[0]}, origins)}
    assert "access-control-allow-credentials" not in names  # keys are sent by the page, never by the browser


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "app.example",
        "https://",
        "https://app.example/",
        "https://*.example",
        "ftp://app.example",
        "https://a@app.example",
        "https://app.example?x",
        "https://[",
        "",
        "https://App.example",
        "https://a b",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="origin"):
        check_origin(text)
