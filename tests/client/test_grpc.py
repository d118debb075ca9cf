"""gRPC says what HTTP says, byte for byte, and fails as it does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")

from modelport.client import AsyncClient, BadReply, Client, Output, Retries  # noqa: E402
from modelport.client.failures import Failed  # noqa: E402
from modelport.client.grpc_oip import Answer, GrpcCalls, _infer  # noqa: E402
from modelport.errors import (  # noqa: E402
    DeadlineExceeded,
    Forbidden,
    InputError,
    ModelFailed,
    ModelportError,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
    UsageError,
)
from modelport.protos import open_inference as pb  # noqa: E402

from ..colours import LABELS, picture  # noqa: E402
from ..serve.grpc.running import grpc_served  # noqa: E402
from .test_live import DTYPES  # noqa: E402
from .test_settings import settings  # noqa: E402


@pytest.fixture(scope="module")
def grpc_url(client_repo: Path) -> Iterator[str]:
    with grpc_served(client_repo) as address:
        yield f"grpc://{address}"


@pytest.fixture(scope="module")
def both(url: str, grpc_url: str) -> Iterator[tuple[Client, Client]]:
    with Client(url) as http, Client(grpc_url) as rpc:
        rpc.wait_until_ready(timeout=30)
        yield http, rpc


def test_every_datatype_is_the_same_over_both(both: tuple[Client, Client]) -> None:
    one, other = (c.infer("every.net", {f"in_{n}": a for n, a in DTYPES.items()}, id="i") for c in both)
    assert list(one) == list(other) and len(one) == len(DTYPES)
    for name, array in one.items():
        assert array.dtype == other[name].dtype and array.shape == other[name].shape
        if array.dtype.kind == "O":
            assert array.tolist() == other[name].tolist()
        else:
            assert array.tobytes() == other[name].tobytes()
            assert other[name].flags.writeable and other[name].flags.aligned
    assert (
        (one.model, one.version, one.id) == (other.model, other.version, other.id) == ("every.net", "1", "i")
    )


def test_predictions_classes_and_metadata_are_the_same_over_both(both: tuple[Client, Client]) -> None:
    x = np.random.default_rng(1).random((3, 3, 8, 8)).astype(np.float32)
    pixels = np.zeros((9, 7, 3), np.uint8)
    pixels[..., 1] = 200
    asked = [Output("logits", classification=2)]
    answers = [
        (
            [c.predict("colours", picture(colour)).answer for colour in LABELS],
            c.predict("colours", pixels).answer,
            c.predict("colours", picture("red"), version=c.metadata("colours").versions[-1]).model,
            c.infer("colours.net", {"x": x}, outputs=asked).classes("logits"),
            c.infer("colours", {"image": [picture("red"), picture("blue")]})["labels"].tolist(),
            c.metadata("colours.net").inputs,
            c.metadata("colours").outputs,
            c.live(),
            c.ready(),
            c.ready("colours"),
            c.ready("nope"),
            c.server().name,
        )
        for c in both
    ]
    assert answers[0] == answers[1]
    assert answers[0][0][0][0].label == "red"
    assert {state.name for state in both[1].models()} >= {"colours", "every.net"}


def test_errors_are_the_same_over_both(both: tuple[Client, Client]) -> None:
    def error(call: Callable[[], object]) -> tuple[type, str]:
        with pytest.raises(ModelportError) as refused:
            call()
        return type(refused.value), refused.value.message

    def errors(client: Client) -> list[tuple[type, str]]:
        return [
            error(lambda: client.infer("nope", {"x": [1.0]})),
            error(lambda: client.metadata("colours", version=77)),
            error(lambda: client.infer("colours.net", {"x": [1.0]})),
            error(lambda: client.infer("colours", {"image": picture("red")}, outputs=["nope"])),
            error(lambda: client.infer("colours", {"image": b"no picture"})),
            error(lambda: client.infer("colours", {"image": picture("red", (20_000, 20_000))})),
        ]

    assert errors(both[0]) == errors(both[1])
    assert [kind for kind, _ in errors(both[1])[-2:]] == [UnsupportedMedia, TooLarge]
    for client in both:
        timing = client.infer("colours", {"image": picture("red")}).timing
        assert 0 < timing.net < timing.total < timing.round_trip


def test_one_item_of_a_model_that_takes_tensors_over_both(both: tuple[Client, Client]) -> None:
    item = {f"in_{name}": array[0] for name, array in DTYPES.items()}
    one, other = (client.predict("every", item) for client in both)
    assert one.answer == other.answer == () and set(one.outputs) == set(other.outputs)
    for name, array in one.outputs.items():
        sent, typed = item[name.replace("out", "in")], other.outputs[name]
        assert array.shape == typed.shape == (3,) and array.dtype == typed.dtype
        if typed.dtype.kind == "O":
            assert array.tolist() == typed.tolist() == [text.encode() for text in sent]
        else:
            assert array.tobytes() == typed.tobytes() == sent.tobytes()
    lone = np.ones(1, np.float32)
    assert both[0].predict("slow", lone).outputs["y"].tolist() == [1.0]
    answer = both[1].predict("slow", {"x": lone})
    assert answer.outputs["y"].tolist() == [1.0]
    assert 0 < answer.timing.net < answer.timing.round_trip  # in the metadata behind the answer


def test_the_deadline_holds(both: tuple[Client, Client]) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        both[1].infer("slow.net", {"x": np.ones((4, 1), np.float32)}, timeout=0.05)
    assert time.monotonic() - began < 10


async def test_the_asyncio_client(grpc_url: str) -> None:
    async with AsyncClient(grpc_url) as client:
        answers = await asyncio.gather(*(client.predict("colours", picture(c)) for c in LABELS * 20))
        assert all(0 < each.timing.net < each.timing.round_trip for each in answers)
        assert [answer.top.label for answer in answers] == LABELS * 20
        assert await client.ready() and not await client.ready("nope")
        with pytest.raises(NotFound):
            await client.metadata("nope")
        many = [a async for a in client.predict_many("colours", [picture("red"), b"no"], concurrency=2)]
        assert isinstance(many[1], InputError)
        task = asyncio.create_task(client.infer("slow.net", {"x": np.ones((1, 1), np.float32)}))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(UsageError, match="closed"):
        await client.live()


def test_32_threads_share_a_channel(both: tuple[Client, Client]) -> None:
    wrong: list[int] = []

    def work(thread: int) -> None:
        for turn in range(5):
            x = np.full((1, 3, 8, 8), thread * 5 + turn, np.float32)
            got = both[1].infer("colours.net", {"x": x})["logits"]
            if not np.allclose(got, (thread * 5 + turn) * 20):
                wrong.append(thread)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


class Refusing:
    """A small real gRPC server whose ServerMetadata does what a test says."""

    def __init__(self, act: Callable[[int, Any], Any]) -> None:
        self.calls = 0
        self.metadata: list[dict[str, str]] = []
        self.left: list[float] = []
        self._act = act

    def answer(self, request: Any, context: Any) -> Any:
        self.calls += 1
        self.metadata.append(dict(context.invocation_metadata()))
        self.left.append(context.time_remaining())
        return self._act(self.calls, context)


@contextmanager
def refusing(act: Callable[[int, Any], Any]) -> Iterator[tuple[str, Refusing]]:
    """Its URL, and what it saw."""
    seen = Refusing(act)
    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(
        seen.answer, pb.ServerMetadataRequest.FromString, pb.ServerMetadataResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(pb.SERVICE, {"ServerMetadata": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", seen
    finally:
        server.stop(None).wait(10)


def failing(code: Any, words: str, times: int = 99, **trailers: str) -> Callable[[int, Any], Any]:
    def act(call: int, context: Any) -> Any:
        if call <= times:
            context.set_trailing_metadata([(n.replace("_", "-"), v) for n, v in trailers.items()])
            context.abort(code, words)
        return pb.ServerMetadataResponse(name="stand-in", extensions=["a", "b"])

    return act


CODES: dict[str, type[ModelportError]] = {
    "INVALID_ARGUMENT": InputError,
    "NOT_FOUND": NotFound,
    "UNAUTHENTICATED": Unauthorized,
    "PERMISSION_DENIED": Forbidden,
    "UNIMPLEMENTED": Unsupported,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "INTERNAL": ModelFailed,
    "DATA_LOSS": BadReply,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": RateLimited,
}
QUICK = Retries(base=0.001)


@pytest.mark.parametrize("code", CODES)
def test_each_status_is_its_error_and_only_two_are_repeated(code: str) -> None:
    act = failing(grpc.StatusCode[code], "the words")
    with (
        refusing(act) as (url, seen),
        Client(url, retries=QUICK) as client,
        pytest.raises(CODES[code], match="the words") as refused,
    ):
        client.server()
    assert type(refused.value) is CODES[code]
    assert seen.calls == (3 if code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") else 1)


@pytest.mark.parametrize("trailers", [{"retry_after": "1"}, {"grpc_retry_pushback_ms": "1000"}])
def test_the_pause_that_a_server_asks_for_is_made(trailers: dict[str, str]) -> None:
    act = failing(grpc.StatusCode.UNAVAILABLE, "busy", 1, **trailers)
    began = time.monotonic()
    with refusing(act) as (url, seen), Client(url, key="k", headers={"X-A": "b"}, retries=QUICK) as client:
        assert client.server().extensions == ("a", "b")
    assert time.monotonic() - began >= 1.0 and seen.calls == 2
    assert seen.metadata[0]["authorization"] == "Bearer k" and seen.metadata[0]["x-a"] == "b"
    # The server is told what is left; on the wire it is rounded up.
    assert 0 < seen.left[1] < seen.left[0] - 0.5


@pytest.mark.parametrize("pushback", ["-1", "never"])
def test_a_server_that_asks_never_to_come_back_is_obeyed(pushback: str) -> None:
    act = failing(grpc.StatusCode.UNAVAILABLE, "busy", grpc_retry_pushback_ms=pushback)
    with (
        refusing(act) as (url, seen),
        Client(url, retries=QUICK) as client,
        pytest.raises(Unavailable, match="busy"),
    ):
        client.server()
    assert seen.calls == 1


def test_no_server_at_all() -> None:
    with refusing(failing(None, "")) as (url, _):
        pass
    with Client(url, retries=QUICK) as client:
        assert not client.live() and not client.ready()
        with pytest.raises(Unavailable, match="is the server running") as refused:
            client.server()
    assert "3 attempts" in refused.value.__notes__[0]


def test_a_reply_over_the_limit() -> None:
    def act(call: int, context: Any) -> Any:
        return pb.ServerMetadataResponse(name="x" * 100_000)

    with (
        refusing(act) as (url, _),
        Client(url, max_reply=1000) as client,
        pytest.raises(TooLarge, match="max_reply"),
    ):
        client.server()


def answer(**more: Any) -> pb.ModelInferResponse:
    made = pb.ModelInferResponse(model_name="m", model_version="1", **more)
    made.outputs.add(name="y", datatype="INT8", shape=[2])
    return made


def test_typed_contents_are_read_and_wrong_ones_refused() -> None:
    typed = answer()
    typed.outputs[0].contents.int_contents.extend([-128, 127])
    assert _infer(typed, None, 0.0)["y"].tolist() == [-128, 127]
    for values in ([1, 300], [1], [1, 2, 3]):
        wrong = answer()
        wrong.outputs[0].contents.int_contents.extend(values)
        with pytest.raises(BadReply):
            _infer(wrong, None, 0.0)
    for datatype in ("FP16", "what"):
        wrong = answer()
        wrong.outputs[0].datatype = datatype
        with pytest.raises(BadReply):
            _infer(wrong, None, 0.0)


def test_replies_that_lie_are_refused() -> None:
    raw = answer(raw_output_contents=[b"\1\2"], id="b")
    assert _infer(raw, "b", 0.0)["y"].tolist() == [1, 2]
    with pytest.raises(BadReply, match="answer to 'b'"):
        _infer(raw, "a", 0.0)
    raw.raw_output_contents.append(b"")
    with pytest.raises(BadReply, match="raw_output_contents"):
        _infer(raw, None, 0.0)
    for shape in ([3], [-2], [1 << 40, 1 << 40], [1] * 40):
        wrong = answer(raw_output_contents=[b"\1\2"])
        wrong.outputs[0].shape[:] = shape
        with pytest.raises(BadReply):
            _infer(wrong, None, 0.0)
    twice = answer(raw_output_contents=[b"\1\2", b"\1\2"])
    twice.outputs.add(name="y", datatype="INT8", shape=[2])
    with pytest.raises(BadReply, match="twice"):
        _infer(twice, None, 0.0)


def test_a_request_to_the_letter() -> None:
    calls = GrpcCalls(settings("grpc://host:1"))
    call = calls.infer(
        "m",
        {"x": np.array([[1.5]], np.float32)},
        version=3,
        outputs=[Output("y", classification=2)],
        id="i",
        priority=1,
        parameters={"b": True, "f": 0.5, "s": "t", "u": (1 << 63) + 1},
    )
    message = call.write(1.5).message
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "i")
    assert message.raw_input_contents[0] == np.float32(1.5).tobytes()
    assert message.outputs[0].parameters["classification"].int64_param == 2
    said = message.parameters
    assert said["b"].bool_param and said["f"].double_param == 0.5 and said["s"].string_param == "t"
    assert said["u"].uint64_param == (1 << 63) + 1 and said["priority"].int64_param == 1
    assert said["timeout"].int64_param == 1_500_000
    assert call.write(0.5).message.parameters["timeout"].int64_param == 500_000
    with pytest.raises(UsageError, match="64 bits"):
        calls.infer("m", {"x": [1.0]}, parameters={"p": 1 << 64})
    with pytest.raises(UsageError, match="by name"):
        calls.predict("m", np.zeros(3), None)
    with pytest.raises(Failed):
        calls.live().read(Answer(pb.ServerLiveResponse(live=False)), 0.0)
    load = calls.load("m", {"version": "2"}).write(None).message
    assert load.model_name == "m" and load.parameters["version"].string_param == "2"
