"""Keys, rates and TLS before the methods."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from modelport.protos import open_inference as oi
from modelport.serve.guard.keys import new_key, new_keys, update

from .running import grpc_served
from .test_stream import ask

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    kept, made = new_keys(), {}
    for name, scopes, more in (
        ("reader", ("infer",), {"models": ("slow",)}),
        ("watcher", ("metrics",), {}),
        ("owner", ("infer", "admin"), {}),
        ("hasty", ("infer",), {"rate": "3/h"}),
    ):
        kept, made[name] = new_key(name, scopes, keys=kept, **more)
    update(path, lambda _: kept)
    return path, made


@pytest.fixture(scope="module")
def stub(repo: Path, keys: tuple[Path, dict[str, str]]) -> Iterator[oi.Stub]:
    with grpc_served(repo, "--keys", str(keys[0])) as address, grpc.insecure_channel(address) as channel:
        made = oi.Stub(channel)
        made.channel = channel  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def by(keys: tuple[Path, dict[str, str]]) -> Callable[[str], list[tuple[str, str]]]:
    return lambda name: [("authorization", f"Bearer {keys[1][name]}")]


def refused(call: Any, request: Any, metadata: Any = None) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, metadata=metadata, timeout=60)
    return raised.value


EVERYTHING = {
    name: method
    for name, method in oi.METHODS.items()
    if name not in ("ServerLive", "ServerReady", "ModelStreamInfer")
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_without_a_key_nothing_is_answered(stub: oi.Stub, name: str) -> None:
    request = ask(1) if name == "ModelInfer" else EVERYTHING[name].request()
    for metadata in (None, [("authorization", "Bearer wrong")], [("x-api-key", "mpk_wrong")]):
        problem = refused(getattr(stub, name), request, metadata)
        assert problem.code() == Code.UNAUTHENTICATED and "key" in problem.details()


def test_probes_need_no_key(stub: oi.Stub) -> None:
    assert stub.ServerLive(oi.ServerLiveRequest()).live and stub.ServerReady(oi.ServerReadyRequest()).ready
    health = health_pb2_grpc.HealthStub(stub.channel)  # type: ignore[attr-defined]
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_a_key_is_for_its_scopes(stub: oi.Stub, by: Any) -> None:
    assert stub.ModelInfer(ask(3), metadata=by("owner")).model_name == "slow"
    assert (
        stub.ModelInfer(ask(3), metadata=[("x-api-key", by("owner")[0][1].split()[1])]).model_name == "slow"
    )
    assert refused(stub.ModelInfer, ask(3), by("watcher")).code() == Code.PERMISSION_DENIED
    load = oi.RepositoryModelLoadRequest(model_name="slow")
    problem = refused(stub.RepositoryModelLoad, load, by("reader"))
    assert problem.code() == Code.PERMISSION_DENIED and "admin" in problem.details()
    # The right key; but this server loads nothing when it is told to.
    assert refused(stub.RepositoryModelLoad, load, by("owner")).code() == Code.UNAVAILABLE


def test_a_key_is_for_its_models(stub: oi.Stub, by: Any) -> None:
    for model in ("slow", "slow.net"):
        for _ in range(3):
            assert stub.ModelInfer(ask(3, model=model), metadata=by("reader")).model_name == model
    for call, request in (
        (stub.ModelInfer, ask(3, model="colours")),
        (stub.ModelInfer, ask(3, model="colours.net")),
        (stub.ModelMetadata, oi.ModelMetadataRequest(name="colours.net")),
        (stub.ModelConfig, oi.ModelConfigRequest(name="every")),
        (stub.ModelStatistics, oi.ModelStatisticsRequest(name="every")),
        (stub.ModelReady, oi.ModelReadyRequest(name="none")),
    ):
        problem = refused(call, request, by("reader"))
        assert problem.code() == Code.PERMISSION_DENIED and "not for the model" in problem.details()
    for call, request in (
        (stub.ModelStatistics, oi.ModelStatisticsRequest()),
        (stub.RepositoryIndex, oi.RepositoryIndexRequest()),
    ):
        problem = refused(call, request, by("reader"))
        assert problem.code() == Code.PERMISSION_DENIED and "names no model" in problem.details()
        call(request, metadata=by("owner"))
    assert stub.ModelStatistics(oi.ModelStatisticsRequest(name="slow"), metadata=by("reader")).model_stats


def test_the_rate_of_a_key_counts_in_calls_and_in_streams(stub: oi.Stub, by: Any) -> None:
    assert stub.ModelInfer(ask(1), metadata=by("hasty")).model_name == "slow"
    replies = list(stub.ModelStreamInfer(iter([ask(2), ask(3), ask(4), ask(5)]), metadata=by("hasty")))
    assert [bool(reply.error_message) for reply in replies] == [False, False, True, True]
    problem = refused(stub.ModelInfer, ask(6), by("hasty"))
    assert problem.code() == Code.RESOURCE_EXHAUSTED
    trailing = dict(problem.trailing_metadata())
    assert 0 < int(trailing["retry-after"]) <= 1200
    assert int(trailing["retry-after"]) * 1000 >= int(trailing["grpc-retry-pushback-ms"]) > 0


def test_a_stream_without_a_key_ends_at_once(stub: oi.Stub) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.ModelStreamInfer(iter([ask(1), ask(2)]), timeout=60))
    assert raised.value.code() == Code.UNAUTHENTICATED


def test_reflection_wants_a_key_too(stub: oi.Stub, by: Any) -> None:
    reflect = reflection_pb2_grpc.ServerReflectionStub(stub.channel)  # type: ignore[attr-defined]
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.RpcError) as raised:
        list(reflect.ServerReflectionInfo(iter([asked]), timeout=30))
    assert raised.value.code() == Code.UNAUTHENTICATED
    (reply,) = reflect.ServerReflectionInfo(iter([asked]), metadata=by("owner"), timeout=30)
    assert len(reply.list_services_response.service) == 3


def certificate(folder: Path, name: str) -> bytes:
    """A new certificate for localhost and its key in `folder`/both.pem; the certificate alone is returned."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         "2", "-keyout", "key.pem", "-out", "cert.pem", "-subj", f"/CN={name}", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    fresh = folder / "fresh.pem"
    fresh.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    os.replace(fresh, folder / "both.pem")
    return (folder / "cert.pem").read_bytes()


@pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl")
def test_tls_with_a_certificate_that_is_renewed_in_use(repo: Path, tmp_path: Path) -> None:
    first = certificate(tmp_path, "first")
    with grpc_served(repo, "--tls", str(tmp_path / "both.pem")) as address:

        def answers(root: bytes) -> float:
            with grpc.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
                reply = oi.Stub(channel).ModelInfer(ask(5), timeout=20)
                return float(np.frombuffer(reply.raw_output_contents[0], np.float32)[0])

        assert answers(first) == 5
        with grpc.insecure_channel(address) as plain:
            assert refused(oi.Stub(plain).ModelInfer, ask(5)).code() == Code.UNAVAILABLE
        (tmp_path / "both.pem").write_text("nonsense")
        assert answers(first) == 5
        second = certificate(tmp_path, "second")
        assert answers(second) == 5
        with pytest.raises(grpc.RpcError) as raised:
            answers(first)
        assert raised.value.code() == Code.UNAVAILABLE
