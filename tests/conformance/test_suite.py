"""The suite passes a right server, and every single check of it fails a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import grpc
import pytest

from modelport.conformance.http import Link
from modelport.conformance.rpc import Rpc
from modelport.conformance.run import chosen, judge, run
from modelport.conformance.subject import Subject
from modelport.conformance.verdict import ALL, PARTS, Verdict

from .proxy import NO, YES, OneAnswer, Proxy, grpc_server

Ports = tuple[int, int]


def subject_at(port: int, grpc_port: int | None = None) -> Subject:
    address = f"127.0.0.1:{grpc_port}" if grpc_port else None
    return Subject(Link(f"http://127.0.0.1:{port}", timeout=20), model="affine", grpc=address)


def failures(verdicts: list[Verdict]) -> dict[str, str]:
    return {each.check.name: each.reason for each in verdicts if each.outcome == "fail"}


def test_a_right_server_passes_every_check(right: Ports) -> None:
    subject = subject_at(*right)
    verdicts = list(run(subject, chosen(())))
    assert subject.rpc is not None
    subject.rpc.close()
    assert not failures(verdicts)
    assert [each.check.name for each in verdicts if each.outcome == "not offered"] == []
    assert len(verdicts) == len(ALL) > 150
    assert {each.check.part for each in verdicts} == set(PARTS)


@pytest.fixture(scope="module")
def wrong(right: Ports) -> Iterator[dict[str, set[str]]]:
    """By the kind of wrong server, the checks that fail there."""
    proxy, handler = Proxy(right[0]), OneAnswer()
    server, grpc_port = grpc_server(handler)
    subject = subject_at(proxy.port)
    assert subject.extensions
    assert subject.answer
    subject.rpc = Rpc(f"127.0.0.1:{grpc_port}", 20, {})
    kinds = {
        "yes": (YES, None),
        "no": (NO, grpc.StatusCode.INTERNAL),
        "closes": (b"", grpc.StatusCode.UNAVAILABLE),
    }
    found: dict[str, set[str]] = {}
    for kind, (proxy.answer, handler.code) in kinds.items():
        verdicts = [judge(check, partial(check.call, subject)) for check in chosen(())]
        found[kind] = set(failures(verdicts))
        first = subject.__dict__.pop("answer")  # also where the very first answer is wrong
        verdicts = [
            judge(check, partial(check.call, subject)) for check in chosen(["metadata", "infer", "versions"])
        ]
        found[kind] |= set(failures(verdicts))
        subject.answer = first
    yield found
    subject.rpc.close()
    server.stop(None).wait()
    proxy.close()


@pytest.mark.parametrize("name", [check.name for check in ALL])
def test_every_check_fails_a_wrong_server(name: str, wrong: dict[str, set[str]]) -> None:
    assert any(name in failed for failed in wrong.values())


def test_a_server_that_says_yes_to_everything_is_right_nowhere(wrong: dict[str, set[str]]) -> None:
    parts = {check.part for check in ALL if check.name in wrong["yes"]}
    assert parts == set(PARTS)


LIES = [
    (b'"id":"', b'"ix":"', {"infer/identity", "infer/any_json"}),
    (b'"shape":[2,3]', b'"shape":[3,2]', {"infer/nested", "infer/chosen_outputs"}),
    (b'"model_version":"1"', b'"model_version":"2"', {"versions/infer"}),
    (b'"model_name":"affine"', b'"model_name":"Affine"', {"infer/answer"}),
    (
        b"inference-header-content-length",
        b"inference-header-content-lengt_",
        {"binary/both_ways", "binary/lengths"},
    ),
    (b'"error"', b'"wrong"', {"errors/unknown_model", "errors/not_json", "limits/negative_dimensions"}),
    (b"application/json", b"application/jsom", {"metadata/content_type", "errors/content_type"}),
    (b'"READY"', b'"BUSY!"', {"repository/index", "repository/only_ready"}),
    (b'"ns"', b'"nx"', {"statistics/fields"}),
    (b'"TYPE_FP32"', b'"TYPE_FP64"', {"config/agrees_with_metadata"}),
    (b"HTTP/1.1 4", b"HTTP/1.1 5", {"errors/unknown_model", "errors/no_shape", "BYTES/cut_in_a_length"}),
    (b"HTTP/1.1 405", b"HTTP/1.1 404", {"errors/wrong_method"}),
    (b"9223372036854775807", b"9223372036854775801", {"datatypes/INT64"}),
]


@pytest.mark.parametrize(("true", "false", "caught"), LIES)
def test_one_lie_is_caught(true: bytes, false: bytes, caught: set[str], proxy: Proxy) -> None:
    subject = subject_at(proxy.port)
    if true != b'"model_name":"affine"':
        assert subject.answer
    assert subject.extensions
    proxy.lie = (true, false)
    checks = [check for check in ALL if check.name in caught]
    assert len(checks) == len(caught)
    verdicts = [judge(check, partial(check.call, subject)) for check in checks]
    assert set(failures(verdicts)) == caught


def test_a_status_that_blames_the_server_breaks_only_a_should(proxy: Proxy) -> None:
    subject = subject_at(proxy.port)
    proxy.lie = (b"HTTP/1.1 4", b"HTTP/1.1 5")
    (check,) = chosen(["errors/no_shape"])
    verdict = judge(check, partial(check.call, subject))
    assert (check.weight, verdict.outcome, verdict.weight) == ("must", "fail", "should")


def test_extensions_that_are_not_announced_are_not_offered(proxy: Proxy) -> None:
    proxy.lie = (
        b'"extensions":["binary_tensor_data","classification"',
        b'"extensions":["xinary_tensor_data","xlassification"',
    )
    subject = subject_at(proxy.port)
    assert "classification" not in subject.extensions
    outcomes = {each.check.name: each.outcome for each in run(subject, chosen(["classification", "gRPC"]))}
    assert outcomes["classification/best"] == "not offered"
    assert outcomes["gRPC/raw"] == "not offered"
    # What works is checked although it is not announced: a server is not punished for its modesty.
    assert [each.outcome for each in run(subject, chosen(["binary/both_ways"]))] == ["pass"]


def test_a_server_that_dies_is_said_to_be_gone_and_can_be_revived(right: Ports) -> None:
    proxy = Proxy(right[0])
    subject = subject_at(proxy.port)
    checks = chosen(["health"])
    proxy.close()
    verdicts = list(run(subject, checks))
    assert all(each.outcome == "fail" for each in verdicts)
    assert verdicts[0].reason.startswith("the server is gone after this")
    assert "not run" in verdicts[1].reason

    def revive() -> None:
        subject.link.port = right[0]

    verdicts = list(run(subject, checks, revive))
    assert [each.outcome for each in verdicts] == ["fail", *["pass"] * (len(checks) - 1)]
