"""The clients against a server that fails in every way a test can think of, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from modelport.client import AsyncClient, BadReply, Client, Prediction, Retries
from modelport.errors import (
    DeadlineExceeded,
    InputError,
    ModelFailed,
    ModelportError,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    UsageError,
)

from .faults import Act, Request, faulty, good, in_turn, reply

QUICK = Retries(base=0.001)
Predict = Callable[..., Prediction]


@pytest.fixture(params=["blocking", "asyncio"])
def predict(request: pytest.FixtureRequest) -> Predict:
    """One predict call of either client: `predict(url, **options)`."""
    if request.param == "blocking":

        def blocking(url: str, times: int = 1, **options: Any) -> Prediction:
            with Client(url, **options) as client:
                for _ in range(times):
                    answer = client.predict("digits", b"data")
                return answer

        return blocking

    def looped(url: str, times: int = 1, **options: Any) -> Prediction:
        async def run() -> Prediction:
            async with AsyncClient(url, **options) as client:
                for _ in range(times):
                    answer = await client.predict("digits", b"data")
                return answer

        return asyncio.run(run())

    return looped


def test_a_good_answer(predict: Predict) -> None:
    with faulty(in_turn(Act(good()))) as server:
        answer = predict(server.url, key="k")
    assert answer.top.label == "7" and answer.model == "digits"
    assert (answer.timing.decode, answer.timing.total) == (0.0005, 0.002) and answer.timing.round_trip > 0
    (request,) = server.requests
    assert request.line == "POST /predict/digits HTTP/1.1" and request.body == b"data"
    assert request.headers["authorization"] == "Bearer k"
    assert 0 < int(request.headers["x-request-timeout-ms"]) <= 30_000


def test_one_connection_carries_one_call_after_another(predict: Predict) -> None:
    with faulty(in_turn(Act(good()))) as server:
        predict(server.url, times=20)
    assert (len(server.requests), server.connections) == (20, 1)


def test_a_server_that_says_close_is_believed(predict: Predict) -> None:
    closing = good().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with faulty(in_turn(Act(closing))) as server:
        predict(server.url, times=3)
    assert server.connections == 3


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_kept_connection_that_was_closed_meanwhile_costs_no_retry(predict: Predict, then: Any) -> None:
    # Every second request finds a connection that ends before the answer.
    def act(request: Request) -> Act:
        return Act(good()) if request.number % 2 == 0 else Act(b"", then)

    with faulty(act) as server:
        predict(server.url, times=3, retries=0)
    assert server.connections == 3


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_connection_lost_before_the_answer_is_tried_again(predict: Predict, then: Any) -> None:
    with faulty(in_turn(Act(b"", then), Act(b"", then), Act(good()))) as server:
        assert predict(server.url, retries=QUICK).top.label == "7"
    assert len(server.requests) == 3


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("cut", [5, 30, len(good()) - 1])
def test_a_connection_lost_within_the_answer_is_not(predict: Predict, then: Any, cut: int) -> None:
    with (
        faulty(in_turn(Act(good()[:cut], then))) as server,
        pytest.raises(Unavailable, match=r"in the middle|before it answered"),
    ):
        predict(server.url, retries=Retries(most=5, base=0.001) if then == "close" else 0)
    assert len(server.requests) == 1


def test_retry_after_is_waited_for(predict: Predict) -> None:
    busy = Act(reply(503, {"error": "busy"}, Retry_After="1"))
    began = time.monotonic()
    with faulty(in_turn(busy, Act(good()))) as server:
        assert predict(server.url, retries=QUICK).top.label == "7"
    assert time.monotonic() - began >= 1.0
    first, second = (int(request.headers["x-request-timeout-ms"]) for request in server.requests)
    assert second <= first - 1000  # the server is told what is left, not what there was


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(predict: Predict) -> None:
    busy = Act(reply(429, {"error": "asked too often"}, Retry_After="20"))
    with faulty(in_turn(busy)) as server, pytest.raises(RateLimited, match="asked too often") as refused:
        predict(server.url, timeout=5.0)
    assert len(server.requests) == 1 and refused.value.retry_after == 20.0
    assert "after the deadline" in refused.value.__notes__[0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InputError), (401, Unauthorized), (413, TooLarge), (500, ModelFailed), (504, DeadlineExceeded)],
)
def test_what_would_fail_again_is_not_tried_again(
    predict: Predict, status: int, kind: type[ModelportError]
) -> None:
    act = Act(reply(status, {"error": "the words"}))
    with faulty(in_turn(act)) as server, pytest.raises(kind, match="the words") as refused:
        predict(server.url)
    assert len(server.requests) == 1 and type(refused.value) is kind


def test_the_deadline_holds_for_a_silent_server(predict: Predict) -> None:
    with faulty(in_turn(Act(b"", "hang"))) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.3 s"):
            predict(server.url, timeout=0.3)
        assert 0.3 <= time.monotonic() - began < 10
        assert server.hung_up.wait(10)  # the server learns that nobody waits


def test_the_deadline_holds_for_a_server_that_drips(predict: Predict) -> None:
    def forever(server_socket: socket.socket) -> None:
        peer, _ = server_socket.accept()
        with peer:
            peer.recv(1 << 16)
            for _ in range(200):
                try:
                    peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                except OSError:
                    return
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=forever, args=(listener,))
        thread.start()
        with pytest.raises(DeadlineExceeded):
            predict(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.4)
        thread.join(20)
    assert not thread.is_alive()


def test_no_server_at_all(predict: Predict) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(Unavailable, match="cannot connect") as refused:
        predict(f"http://127.0.0.1:{port}", retries=QUICK)
    assert "modelport serve" in str(refused.value)
    assert "3 attempts" in refused.value.__notes__[0]


def test_a_name_that_is_not_known(predict: Predict) -> None:
    with pytest.raises(Unavailable, match=r"cannot connect to http://no-such-host\.invalid:80"):
        predict("http://no-such-host.invalid", retries=0)


NONSENSE = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a web page": reply(200).replace(b"Content-Length: 0", b"Content-Length: 6") + b"<html>",
    "no JSON": reply(200).replace(b"Content-Length: 0", b"Content-Length: 1") + b"{",
    "another protocol": reply(200, {"predictions": []}),
    "over the limit": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_as_such_and_not_repeated(predict: Predict, name: str) -> None:
    with faulty(in_turn(Act(NONSENSE[name]))) as server, pytest.raises(BadReply):
        predict(server.url, max_reply=1 << 20)
    assert len(server.requests) == 1


def test_a_redirect_is_told_and_not_followed(predict: Predict) -> None:
    moved = Act(reply(307, None, Location="http://elsewhere/"))
    with faulty(in_turn(moved)) as server, pytest.raises(UsageError, match="moved to http://elsewhere/"):
        predict(server.url, key="secret")
    assert len(server.requests) == 1


def test_bytes_that_nobody_asked_for_never_answer_the_next_call(predict: Predict) -> None:
    forged = good().replace(b'"7"', b'"x"')
    with faulty(in_turn(Act(good() + forged), Act(good()))) as server:
        assert predict(server.url, times=2).top.label == "7"
    assert server.connections == 2


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("pause", [0.0, 0.6])  # the late answer comes after the next call begins, or before
def test_a_reply_that_comes_late_is_not_read_by_the_next_call(late: int, pause: float) -> None:
    """A call runs out of time, on a new connection or a kept one; its answer must not be the next one's."""

    def act(request: Request) -> Act:
        if request.number == late:
            time.sleep(0.5)
            return Act(good().replace(b'"7"', b'"x"'))
        return Act(good())

    with faulty(act) as server, Client(server.url) as client:
        for _ in range(late):
            client.predict("digits", b"before")
        with pytest.raises(DeadlineExceeded):
            client.predict("digits", b"late", timeout=0.1)
        time.sleep(pause)
        assert client.predict("digits", b"next").top.label == "7"
    assert server.connections == 2


def test_a_server_that_refuses_a_body_before_it_has_read_it_is_heard(predict: Predict) -> None:
    refusal = reply(413, {"error": "too large for me"}, Connection="close")

    def call(url: str, kind: str) -> None:
        big = {"x": np.zeros(1 << 22, np.float64)}  # 32 MB: more than the sockets hold
        if kind == "blocking":
            with Client(url, retries=0) as client:
                client.infer("m", big)
        else:

            async def run() -> None:
                async with AsyncClient(url, retries=0) as client:
                    await client.infer("m", big)

            asyncio.run(run())

    with faulty(in_turn(Act(refusal, "close")), read_bodies=False) as server:
        for kind in ("blocking", "asyncio"):
            with pytest.raises(TooLarge, match="too large for me"):
                call(server.url, kind)
