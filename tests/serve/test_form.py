"""The short look into a form against the library that reads every form."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from modelport.errors import InputError
from modelport.serve.body import form_fields, multipart_item
from modelport.serve.form import MAX_PARTS, only_file

BOUNDARY = b"b0"
KIND = b"multipart/form-data; boundary=" + BOUNDARY
FILE = b'Content-Disposition: form-data; name="file"; filename="x.png"'


def form(*parts: tuple[bytes, bytes], end: bytes = b"--\r\n") -> bytes:
    """A form's bytes: each part's header lines and its data."""
    between = b"--" + BOUNDARY + b"\r\n"
    return b"".join(between + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + (
        b"--" + BOUNDARY + end
    )


def slowly(body: bytes) -> bytes:
    """What the long way finds."""
    return asyncio.run(multipart_item(body, Headers({"content-type": KIND.decode()}))).data


# Pieces that a parser could take for a boundary or a part of one.
PIECES = [b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--b", b"--b0", b"b0", b"x", b"\0\xff", b""]
MARKS = [b"\r\n--b0\r\n", b"\r\n--b0--\r\n", b"\r\n\r\n", FILE]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_a_file_alone_is_found_where_the_library_finds_it(data: bytes) -> None:
    body = form((FILE + b"\r\nContent-Type: image/png", data))
    found = only_file(body, KIND)
    if b"\r\n--b0" in b"\r\n" + data:
        return  # no file alone any more; the next test is about such
    assert slowly(body) == data
    assert found == ((body.index(b"\r\n\r\n") + 4, len(body) - 10) if data else None)


@given(st.lists(st.sampled_from(PIECES + MARKS), max_size=14))
def test_whatever_is_found_is_what_the_library_finds(pieces: list[bytes]) -> None:
    body = b"--b0\r\n" + FILE + b"\r\n\r\n" + b"".join(pieces)
    found = only_file(body, KIND)
    if found is not None:
        assert body[slice(*found)] == slowly(body)


@pytest.mark.parametrize(
    "body",
    [
        form((FILE, b"data"), (b'Content-Disposition: form-data; name="iou"', b".5")),
        form((b'Content-Disposition: form-data; name="file"', b"data")),
        form((b'Content-Disposition: form-data; filename="x.png"', b"data")),
        form((b"Content-Type: image/png", b"data")),
        form((FILE, b"data"), end=b"\r\n"),
        form((FILE, b"data"))[:-8],
        form(),
        b"",
        b"data",
    ],
    ids=["two parts", "a field", "no name", "no disposition", "no end", "cut", "no part", "empty", "no form"],
)
def test_other_forms_are_left_to_the_long_way(body: bytes) -> None:
    assert only_file(body, KIND) is None


def test_a_form_without_a_boundary_is_left_to_the_long_way() -> None:
    assert only_file(form((FILE, b"data")), b"multipart/form-data") is None


def test_a_body_full_of_boundaries_is_refused_before_it_is_parsed() -> None:
    body = form((FILE, (b"\r\n--" + BOUNDARY + b"a") * (MAX_PARTS + 2)))
    assert only_file(body, KIND) is None
    with pytest.raises(InputError, match="more than 1024 parts"):
        slowly(body)
    with pytest.raises(InputError, match="more than 1024 parts"):
        asyncio.run(form_fields(body, Headers({"content-type": KIND.decode()})))


def test_a_form_that_says_no_boundary_is_not_counted_by_its_dashes() -> None:
    with pytest.raises(InputError, match="malformed"):
        asyncio.run(multipart_item(b"--" * (MAX_PARTS + 2), Headers({"content-type": "multipart/form-data"})))
