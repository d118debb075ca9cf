"""PAI-EAS's service API: asked by its SDK (where it is installed), and by a client made by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modelport.cli.keys import command
from modelport.errors import DeadlineExceeded, QueueFull, Unavailable
from modelport.serve.dialects import eas
from modelport.serve.memory import BodyMemory

from ...colours import LABELS, pack_colours, picture, served
from .eas_messages import message, read

SDK = Path.home() / ".cache/modelport-bench/venv/eas/bin/python"
BATCH = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
LOGITS = BATCH.mean((2, 3)) * 20


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eas")
    pack_colours(folder, version="2")
    return pack_colours(folder, version="10")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def token(keys: Path) -> str:
    """A key that the server keeps in the clear, since signatures are made with it."""
    made = CliRunner().invoke(command, ["--file", str(keys), "add", "eas", "--signing", "--json"])
    assert made.exit_code == 0, made.output
    return str(json.loads(made.stdout)["key"])


@pytest.fixture(scope="module")
def url(repo: Path, keys: Path, token: str) -> Iterator[str]:
    options = ("--api", "eas", "--versions", "all", "--executors", "1", "--keys", str(keys))
    with served(repo, *options) as (address, _):
        yield address


@pytest.fixture(scope="module")
def http(url: str, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30, headers={"Authorization": token}) as client:
        yield client
        reply = client.post("/api/predict/colours", content=picture("green"))
        assert reply.json()["answer"][0]["label"] == "green"


def signed(body: bytes, token: str, path: str = "/api/predict/colours", **over: str) -> dict[str, str]:
    """The headers that the SDK sends; `over` changes one after it was signed."""
    md5, kind = hashlib.md5(body).hexdigest(), "application/octet-stream"
    date = "Mon, 02 Nov 2026 10:00:00 GMT"
    text = f"POST\n{md5}\n{kind}\n{date}\n{path}".encode()
    mark = base64.b64encode(hmac.new(token.encode(), text, hashlib.sha1).digest()).decode()
    head = {"Content-MD5": md5, "Date": date, "Content-Type": kind, "Authorization": f"EAS {mark}"}
    return head | {name.replace("_", "-"): value for name, value in over.items()}


def array(dtype: int, values: np.ndarray, field: str = "float_val") -> Any:
    shape = message("Shape", dim=values.shape)
    return message("Array", dtype=dtype, array_shape=shape, **{field: values.ravel().tolist()})


def test_the_sdk_asks_for_all_that_it_can(url: str, token: str, tmp_path: Path) -> None:
    if not SDK.exists():
        pytest.skip(f"eas-prediction is not installed in {SDK.parents[1]} (it needs an older protobuf)")
    (tmp_path / "x.png").write_bytes(picture("blue"))
    script = Path(__file__).with_name("eas_client.py")
    ran = subprocess.run(
        [SDK, script, url, token, tmp_path / "x.png"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["picture"]["answer"][0]["label"] == "blue" and found["picture"]["version"] == "10"
    assert found["version"] == "2" and found["custom url"][0]["label"] == "blue"
    for flavour in ("tensorflow", "torch", "torch filtered", "torch by name", "onnx"):
        shape, values = found[flavour][:2]
        assert np.allclose(np.array(values).reshape(shape), LOGITS, atol=1e-4), flavour
    assert found["onnx"][2] == "logits"
    for name, (code, says) in {
        "wrong token": (401, "key"),
        "no service": (404, "unknown model"),
        "no picture": (415, "picture"),
        "wrong type": (400, "float32"),
        "wrong input": (400, "unexpected input"),
        "wrong output": (400, "unknown output"),
        "wrong signature": (400, "serving_default"),
        "wrong place": (400, "unknown output"),
        "no such output": (400, "unknown output"),
    }.items():
        assert found["refusals"][name][0] == code and says in found["refusals"][name][1], name


@pytest.mark.parametrize("colour", LABELS)
@pytest.mark.parametrize("path", ["/api/predict/colours", "/api/predict/colours/", "/api/predict/colours/2"])
def test_what_predict_takes_is_answered_in_json(http: httpx.Client, path: str, colour: str) -> None:
    encoded = base64.b64encode(picture(colour)).decode()
    for content, kind in (
        (picture(colour), "application/octet-stream"),
        (picture(colour, kind="JPEG"), ""),
        (json.dumps({"image": encoded}).encode(), "application/json"),
        (b"\n" + json.dumps({"image": encoded}).encode(), "application/json"),
    ):
        reply = http.post(path, content=content, headers={"Content-Type": kind} if kind else {})
        assert reply.status_code == 200, reply.text
        assert reply.json()["answer"][0]["label"] == colour
        assert reply.json()["version"] == ("2" if path.endswith("2") else "10")
    form = http.post(path, files={"file": ("x.png", picture(colour))})
    assert form.json()["answer"][0]["label"] == colour


def test_tensors_come_back_in_the_message_they_came_in(http: httpx.Client) -> None:
    def ask(request: Any) -> bytes:
        reply = http.post("/api/predict/colours", content=request.SerializeToString())
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == "application/octet-stream"
        return reply.content

    entry = message("Entry", key="x", value=array(1, BATCH))
    for extra in ({}, {"signature_name": "serving_default"}, {"output_filter": ["logits"]}):
        (out,) = read("TensorflowReply", ask(message("TensorflowRequest", inputs=[entry], **extra))).outputs
        assert out.key == "logits" and out.value.dtype == 1 and list(out.value.array_shape.dim) == [2, 3]
        assert np.allclose(out.value.float_val, LOGITS.ravel(), atol=1e-4)
    for extra in ({}, {"output_filter": [0]}, {"debug_level": 3}):
        placed = message("TorchRequest", inputs=[array(1, BATCH)], **extra)
        (out,) = read("TorchReply", ask(placed)).outputs
        assert np.allclose(out.float_val, LOGITS.ravel(), atol=1e-4)
        (named,) = read("TorchReply", ask(message("TorchRequest", map_inputs=[entry], **extra))).map_outputs
        assert named.key == "logits" and np.allclose(named.value.float_val, LOGITS.ravel(), atol=1e-4)
    tensor = message("Tensor", name="x", dims=BATCH.shape, data_type=1, raw_data=BATCH.tobytes())
    (out,) = read("Data", ask(message("Data", tensors=[tensor]))).tensors
    assert out.name == "logits" and list(out.dims) == [2, 3] and out.data_type == 1
    assert np.allclose(np.frombuffer(out.raw_data, np.float32), LOGITS.ravel(), atol=1e-4)


def test_a_get_shows_the_signature(http: httpx.Client) -> None:
    for path in ("/api/predict/colours", "/api/predict/colours/", "/api/predict/colours/2"):
        assert http.get(path).json() == {
            "signature_name": "serving_default",
            "inputs": [{"name": "x", "shape": [-1, 3, 8, 8], "type": "DT_FLOAT"}],
            "outputs": [{"name": "logits", "shape": [-1, 3], "type": "DT_FLOAT"}],
        }


def test_a_signature_opens_the_door(http: httpx.Client, token: str) -> None:
    body = picture("red")
    assert http.post("/api/predict/colours", content=body, headers=signed(body, token)).status_code == 200
    # The SDK signs its local time and calls it GMT: the date is signed, and not judged.
    small = http.post("/api/predict/colours", content=b"x", headers=signed(b"x", token))
    assert small.status_code == 415


BODY = picture("red")
CLOSED: dict[str, Callable[[str], dict[str, Any]]] = {
    "nothing": lambda token: {"Authorization": ""},
    "another token": lambda token: {"Authorization": token[:-1]},
    "a longer token": lambda token: {"Authorization": token + "="},
    "not ascii": lambda token: {"Authorization": "t\xf6ken".encode("latin-1")},
    "no signature": lambda token: {"Authorization": "EAS x"},
    "another body": lambda token: signed(b"another body", token),
    "another body's md5": lambda token: signed(
        BODY, token, Content_MD5=hashlib.md5(b"another body").hexdigest()
    ),
    "another date": lambda token: signed(BODY, token, Date="Mon, 02 Nov 2026 10:00:01 GMT"),
    "another type": lambda token: signed(BODY, token, Content_Type="image/png"),
    "another path": lambda token: signed(BODY, token, "/api/predict/other"),
    "signed with another token": lambda token: signed(BODY, "x" + token),
    "no md5": lambda token: signed(BODY, token, Content_MD5=""),
}


@pytest.mark.parametrize("name", CLOSED)
def test_the_door_stays_closed(http: httpx.Client, token: str, name: str) -> None:
    for path in ("/api/predict/colours", "/api/predict/colours/", "/api/predict/none"):
        reply = http.post(path, content=BODY, headers=CLOSED[name](token))
        assert reply.status_code == 401 and reply.json()["error"]
        assert token not in reply.text
    assert http.get("/api/predict/colours", headers={"Authorization": "no"}).status_code == 401


def test_a_signature_is_for_what_was_signed_wherever_it_is_sent(http: httpx.Client, token: str) -> None:
    head = signed(BODY, token)
    assert http.post("/api/predict/colours", content=BODY, headers=head).status_code == 200
    assert http.post("/api/predict/colours", content=BODY + b"x", headers=head).status_code == 401
    assert http.post("/api/predict/colours/2", content=BODY, headers=head).status_code == 401
    chunks = (BODY[:10], BODY[10:] + b"x")
    assert http.post("/api/predict/colours", content=iter(chunks), headers=head).status_code == 401


def entry_of(value: Any) -> bytes:
    return message("TensorflowRequest", inputs=[message("Entry", key="x", value=value)]).SerializeToString()


WRONG = {
    "no values": (
        entry_of(message("Array", dtype=1, array_shape=message("Shape", dim=[1, 3, 8, 8]))),
        "got 0",
    ),
    "too few": (entry_of(array(1, BATCH[:, :, :, :7])), "axis 3"),
    "dims that overflow": (
        entry_of(message("Array", dtype=1, array_shape=message("Shape", dim=[1 << 62, 4]), float_val=[0.0])),
        "elements",
    ),
    "negative dims": (
        entry_of(message("Array", dtype=1, array_shape=message("Shape", dim=[-1, -1]), float_val=[0.0])),
        "not a shape",
    ),
    "many dims": (
        entry_of(message("Array", dtype=1, array_shape=message("Shape", dim=[1] * 99), float_val=[0.0])),
        "not a shape",
    ),
    "an unknown dtype": (entry_of(array(14, BATCH)), "dtype 14"),
    "another field": (entry_of(array(2, BATCH)), "DT_DOUBLE"),
    "doubles": (entry_of(array(2, BATCH, "double_val")), "float32"),
    "an int32 for a uint8": (entry_of(array(4, np.array([256]), "int_val")), "outside uint8"),
    "text that is none": (
        entry_of(message("Array", dtype=7, array_shape=message("Shape", dim=[1]), string_val=[b"\xff"])),
        "UTF-8",
    ),
    "no dtype at a place": (
        message("TorchRequest", inputs=[message("Array"), array(1, BATCH)]).SerializeToString(),
        "dtype 0",
    ),
    "two places": (message("TorchRequest", inputs=[array(1, BATCH)] * 2).SerializeToString(), "takes 1"),
    "place and name": (
        message(
            "TorchRequest",
            inputs=[array(1, BATCH)],
            map_inputs=[message("Entry", key="x", value=array(1, BATCH))],
        ).SerializeToString(),
        "by place and by name",
    ),
    "raw data of another size": (
        message(
            "Data", tensors=[message("Tensor", name="x", dims=[1, 3, 8, 8], data_type=1, raw_data=b"12345")]
        ).SerializeToString(),
        "whole numbers",
    ),
    "onnx text": (
        message("Data", tensors=[message("Tensor", name="x", dims=[1], data_type=8)]).SerializeToString(),
        "data_type 8",
    ),
    "a message cut short": (entry_of(array(1, BATCH))[:-1], "protobuf"),
    "a message of another kind": (b"\x0a\x03abc\x12\x01x", "protobuf"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_messages_that_cannot_be_are_refused_in_words(http: httpx.Client, name: str) -> None:
    body, says = WRONG[name]
    reply = http.post("/api/predict/colours", content=body)
    assert reply.status_code == 400, reply.text
    assert says in reply.json()["error"], reply.text


@pytest.mark.parametrize(
    ("problem", "status"),
    [(QueueFull("full"), 450), (DeadlineExceeded("late"), 408), (Unavailable("stopping"), 503)],
)
async def test_eas_has_its_own_words_for_too_much_and_too_late(problem: Unavailable, status: int) -> None:
    reply = await asked(problem, b"picture")
    assert reply.status_code == status
    if status != 503:
        assert reply.json()["error"] and int(reply.headers["retry-after"]) >= 1


async def test_a_body_that_finds_no_memory_is_a_full_queue_too() -> None:
    exchange = SimpleNamespace(hold=BodyMemory(3).take)
    reply = await asked(None, gzip.compress(b"picture"), exchange, {"Content-Encoding": "gzip"})
    assert reply.status_code == 450
    assert "large bodies" in reply.json()["error"] and int(reply.headers["retry-after"]) >= 1


async def asked(
    problem: Unavailable | None,
    content: bytes,
    exchange: object = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """The endpoint's own reply, with a model that refuses as `problem`: no timing decides it."""

    class Model:
        class bundle:
            class manifest:
                options = ()

                class decode:
                    kind = "image"

        async def answer(self, encoded: bytes, options: object = None) -> None:
            assert problem is not None
            raise problem

    class Repository:
        def model(self, name: str, version: str | None) -> Model:
            return Model()

    async def refused(request: Request, problem: Exception) -> Response:
        return Response(status_code=getattr(problem, "http_status", 500))

    app = Starlette(routes=eas.ROUTES, exception_handlers={Unavailable: refused})
    app.state.repository, app.state.max_body = Repository(), 1000

    async def on_exchange(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope | {"state": {"exchange": exchange}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(on_exchange), base_url="http://x") as client:
        return await client.post("/api/predict/any", content=content, headers=headers)
