"""The client and a real server that wants keys, that is managed, that is killed and comes back."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from modelport.client import Client, Prediction
from modelport.errors import Forbidden, ModelportError, NotFound, RateLimited, Unauthorized, Unavailable
from modelport.serve.guard.keys import new_key, update

from ..colours import picture, served


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_keys_scopes_rates_and_management(client_repo: Path, tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def change(before: object) -> object:
        for name, scope in (("ci", "infer"), ("ops", "admin")):
            before, keys[name] = new_key(name, (scope,), keys=before)  # type: ignore[arg-type]
        before, keys["slow"] = new_key("slow", ("infer",), keys=before, rate="2/h")  # type: ignore[arg-type]
        return before

    update(tmp_path / "keys.json", change)  # type: ignore[arg-type]
    admin = f"http://127.0.0.1:{free_port()}"
    options = ("--keys", str(tmp_path / "keys.json"), "--admin-port", admin.rpartition(":")[2])
    with served(client_repo, *options) as (url, _), Client(url, key=keys["ci"], retries=0) as client:
        assert client.predict("colours", picture("red")).top.label == "red"
        for wrong in (None, "no such key"):
            with Client(url, key=wrong) as stranger, pytest.raises(Unauthorized, match="key"):
                stranger.predict("colours", picture("red"))
        with Client(url, key=keys["slow"]) as hasty:
            answers = list(hasty.predict_many("colours", [picture("red")] * 5, timeout=5, concurrency=1))
        refused = answers[-1]
        assert isinstance(answers[0], Prediction)
        assert isinstance(refused, RateLimited) and refused.retry_after > 5
        with Client(admin, key=keys["ci"]) as caller, pytest.raises(Forbidden):
            caller.load("colours", version="2")
        with Client(admin, key=keys["ops"]) as operator:
            with pytest.raises(NotFound, match="version 2 is not loaded"):
                client.predict("colours", picture("red"), version="2")
            operator.load("colours", version="2")
            assert client.predict("colours", picture("red"), version=2).version == "2"
            operator.unload("colours", version="2")
            with pytest.raises(Unavailable, match="not ready"):
                client.predict("colours", picture("red"), version="2")
            with pytest.raises(NotFound):
                operator.load("colours", version="77")
            assert client.predict("colours", picture("blue")).version == "10"


def test_a_killed_server_fails_what_is_on_its_way_and_its_successor_is_found(client_repo: Path) -> None:
    port = free_port()
    ended: list[object] = []
    x = np.ones((1, 1), np.float32)
    with Client(f"http://127.0.0.1:{port}", retries=0) as client:

        def ask() -> None:
            try:
                ended.append(client.infer("slow.net", {"x": x}, timeout=60))
            except ModelportError as problem:
                ended.append(problem)

        with served(client_repo, "--port", str(port)) as (_, server):
            client.wait_until_ready("slow", timeout=60)
            client.predict("colours", picture("red"))
            threads = [threading.Thread(target=ask) for _ in range(20)]
            for thread in threads:
                thread.start()
            time.sleep(0.05)
            server.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads)
        assert len(ended) == 20
        failed = [answer for answer in ended if isinstance(answer, ModelportError)]
        assert failed and all(isinstance(problem, Unavailable) for problem in failed)
        assert not client.live()
        with served(client_repo, "--port", str(port)):
            client.wait_until_ready("colours", timeout=60)
            assert client.predict("colours", picture("green")).top.label == "green"


def test_stages_are_told_for_tensors_too(url: str) -> None:
    with Client(url) as client:
        got = client.infer("colours.net", {"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert 0 < got.timing.net <= got.timing.round_trip
