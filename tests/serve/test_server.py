"""The real server in its own process, asked by real clients."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from ..colours import LABELS, pack_colours, picture, served


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    pack_colours(folder, version="2")
    return pack_colours(folder, version="10")


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with served(repo, "--versions", "all") as (address, _):
        yield address


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
        # Whatever the tests before did to it, the server still answers.
        assert (
            client.post("/predict/colours", content=picture("green")).json()["answer"][0]["label"] == "green"
        )


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(urlsplit(url).netloc, concurrency=4) as connected:
        yield connected


def best(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["answer"][0]["label"])


@pytest.mark.parametrize("colour", LABELS)
def test_a_picture_in_every_form(http: httpx.Client, colour: str) -> None:
    data = picture(colour)
    assert best(http.post("/predict/colours", content=data)) == colour
    assert (
        best(http.post("/predict/colours/2", content=data, headers={"Content-Type": "image/png"})) == colour
    )
    assert best(http.post("/predict/colours", files={"file": ("x.png", data)})) == colour
    assert best(http.post("/predict/colours", files={"upload": ("x.png", data)})) == colour
    encoded = base64.b64encode(data).decode()
    for text in (encoded, f"data:image/png;base64,{encoded}"):
        assert best(http.post("/predict/colours", json={"image": text})) == colour


def test_the_answer_says_who_answered_and_how_long_it_took(http: httpx.Client) -> None:
    reply = http.post("/predict/colours", content=picture("red", kind="JPEG")).json()
    assert (reply["model"], reply["version"]) == ("colours", "10")
    assert reply["answer"][0]["label"] == "red" and len(reply["answer"]) == 3
    assert sum(entry["score"] for entry in reply["answer"]) == pytest.approx(1)
    assert set(reply["timing_ms"]) == {"decode", "pre", "queue", "net", "post", "total"}
    parts = sum(value for name, value in reply["timing_ms"].items() if name != "total")
    assert 0 < parts <= reply["timing_ms"]["total"] + 0.01


BAD = {
    "empty": (b"", {}, 400, "empty"),
    "noise": (b"not a picture at all", {}, 415, ""),
    "cut": (picture("red", (200, 200))[:150], {}, 400, ""),
    "json": (b"{", {"Content-Type": "application/json"}, 400, "JSON"),
    "json list": (b"[1]", {"Content-Type": "application/json"}, 400, "JSON"),
    "json without image": (b"{}", {"Content-Type": "application/json"}, 400, "base64"),
    "json number": (b'{"image": 5}', {"Content-Type": "application/json"}, 400, "base64"),
    "not base64": (b'{"image": "***"}', {"Content-Type": "application/json"}, 400, "base64"),
    "form without boundary": (b"x", {"Content-Type": "multipart/form-data"}, 400, "form"),
    "form that is none": (b"x", {"Content-Type": "multipart/form-data; boundary=y"}, 400, "form"),
    "not gzip": (b"x", {"Content-Encoding": "gzip"}, 400, "gzip"),
    "another coding": (b"x", {"Content-Encoding": "br"}, 415, "gzip or deflate"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bodies_are_refused_in_words(http: httpx.Client, name: str) -> None:
    body, headers, status, words = BAD[name]
    reply = http.post("/predict/colours", content=body, headers=headers)
    assert reply.status_code == status, reply.text
    assert words in reply.json()["error"]


def test_a_form_with_two_files_and_none_called_file(http: httpx.Client) -> None:
    files = [("a", ("a.png", picture("red"))), ("b", ("b.png", picture("red")))]
    reply = http.post("/predict/colours", files=files)
    assert reply.status_code == 400 and "field `file`" in reply.json()["error"]


def test_unknown_paths_models_and_methods(http: httpx.Client) -> None:
    for path in ("/nowhere", "/predict/none", "/predict/colours/7", "/api/models/none", "/v2/models/none"):
        reply = http.get(path) if "/predict" not in path else http.post(path, content=b"x")
        assert reply.status_code == 404, path
        assert reply.json()["error"]
    nameless = [http.get("/predict"), http.post("/predict"), http.post("/predict/", content=b"x")]
    assert [reply.status_code for reply in nameless] == [404] * 3
    assert all("POST to /predict/NAME" in reply.json()["error"] for reply in nameless)
    page = http.get("/models/none")
    assert page.status_code == 404 and "<html" in page.text
    looked = http.get("/predict/colours/2")
    assert looked.status_code == 405 and looked.headers["allow"] == "POST"
    assert "POST" in looked.json()["error"] and looked.json()["error"].endswith(" /models/colours/2")
    assert http.get("/models/colours/2").status_code == 200
    assert http.delete("/v2/models/colours").json() == {"error": "Method Not Allowed"}
    for odd in ("/static/../app.py", "/static/%2e%2e/app.py", "/models/..%2f..%2fetc", "/static//etc/passwd"):
        assert http.get(odd).status_code == 404, odd


def test_the_pages_come_with_safe_headers_and_from_here_alone(http: httpx.Client) -> None:
    for path in ("/", "/models", "/models/colours", "/models/colours/2"):
        reply = http.get(path)
        assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in reply.text.replace("http://www.w3.org/", "") and "https://" not in reply.text
    about = http.get("/api/models").json()["models"][0]
    assert about["versions"] == ["2", "10"] and about["version"] == "10" and about["state"] == "ready"
    full = http.get("/api/models/colours").json()
    assert full["labels"] == LABELS and full["golden"]["cases"] == 3
    sample = http.get(full["samples"][0]["url"])
    assert sample.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(sample.content)).size == (24, 32)
    assert http.get("/api/models/colours/10/samples/99").status_code == 404


def test_health_index_and_metadata_by_tritonclient(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("colours") and client.is_model_ready("colours.net", "2")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "modelport"
    index = {
        (entry["name"], entry["version"]): entry["state"] for entry in client.get_model_repository_index()
    }
    assert index["colours", "2"] == index["colours.net", "10"] == "READY" and len(index) == 4
    whole = client.get_model_metadata("colours")
    assert whole["versions"] == ["2", "10"]
    assert whole["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}]
    assert {o["name"]: (o["datatype"], o["shape"]) for o in whole["outputs"]} == {
        "scores": ("FP32", [3]),
        "indices": ("INT64", [3]),
        "labels": ("BYTES", [3]),
    }
    net = client.get_model_metadata("colours.net")
    assert net["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]
    assert net["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]


def test_settings_by_tritonclient(client: triton.InferenceServerClient) -> None:
    assert client.get_trace_settings() == client.get_trace_settings("colours") == {"trace_level": ["OFF"]}
    assert client.update_trace_settings(settings={"trace_level": "OFF"}) == {"trace_level": ["OFF"]}
    assert client.update_trace_settings(settings={"trace_level": None}) == {"trace_level": ["OFF"]}
    assert client.get_log_settings() == {"log_info": True, "log_warning": True, "log_error": True}
    for refused in (
        lambda: client.update_trace_settings("colours", {"trace_level": ["TIMESTAMPS"]}),
        lambda: client.update_log_settings({"log_verbose_level": 1}),
        client.get_system_shared_memory_status,
        lambda: client.register_system_shared_memory("x", "/psm_0", 64),
        client.unregister_cuda_shared_memory,
    ):
        with pytest.raises(InferenceServerException) as caught:
            refused()
        assert caught.value.status() == "501"
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.get_trace_settings("nobody")


@pytest.mark.parametrize("binary", [True, False])
def test_the_whole_bundle_by_tritonclient(client: triton.InferenceServerClient, binary: bool) -> None:
    def ask(array: np.ndarray, datatype: str) -> triton.InferResult:
        image = triton.InferInput("image", list(array.shape), datatype)
        image.set_data_from_numpy(array, binary_data=binary)
        wanted = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("labels", "scores")]
        return client.infer("colours", [image], outputs=wanted, request_id="42")

    pixels = np.asarray(Image.open(io.BytesIO(picture("blue"))))
    one = ask(pixels, "UINT8")
    assert one.get_response()["id"] == "42" and one.get_response()["model_version"] == "10"
    assert text(one.as_numpy("labels")) == ["blue", "red", "green"]
    assert one.as_numpy("scores").shape == (3,)
    several = ask(np.stack([pixels, pixels[..., ::-1]]), "UINT8")
    assert [text(row)[0] for row in several.as_numpy("labels")] == ["blue", "red"]
    if binary:
        files = ask(np.array([picture("green"), picture("red")], dtype=object), "BYTES")
        assert [text(row)[0] for row in files.as_numpy("labels")] == ["green", "red"]
        assert files.as_numpy("scores").shape == (2, 3)


def text(array: np.ndarray) -> list[str]:
    return [item.decode() if isinstance(item, bytes) else str(item) for item in array]


def test_the_network_alone_by_tritonclient(client: triton.InferenceServerClient) -> None:
    batch = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    tensor = triton.InferInput("x", list(batch.shape), "FP32").set_data_from_numpy(batch)
    got = client.infer("colours.net", [tensor], model_version="2").as_numpy("logits")
    assert np.allclose(got, batch.mean((2, 3)) * 20, atol=1e-4)
    top = triton.InferRequestedOutput("logits", class_count=1)
    named = client.infer("colours.net", [tensor], outputs=[top]).as_numpy("logits")
    assert [row[0].decode().split(":")[2] for row in named] == [LABELS[i] for i in got.argmax(1)]


def test_misfits_get_their_reason_through_tritonclient(client: triton.InferenceServerClient) -> None:
    def ask(model: str, array: np.ndarray, datatype: str, name: str = "x") -> None:
        tensor = triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)
        client.infer(model, [tensor])

    for model, array, datatype, name, words in (
        ("colours.net", np.zeros((1, 8, 8, 3), np.float32), "FP32", "x", "transpose"),
        ("colours.net", np.zeros((3, 8, 8), np.float32), "FP32", "x", "batch axis"),
        ("colours.net", np.zeros((1, 3, 8, 8), np.float64), "FP64", "x", "astype"),
        ("colours.net", np.zeros((0, 3, 8, 8), np.float32), "FP32", "x", "rows"),
        ("colours.net", np.zeros((1, 3, 8, 8), np.float32), "FP32", "y", "unexpected input 'y'"),
        ("colours", np.zeros((8, 8), np.uint8), "UINT8", "image", "UINT8"),
        ("colours", np.zeros((0, 8, 3), np.uint8), "UINT8", "image", "image"),
        ("colours", np.array([b"no picture"], object), "BYTES", "image", "JPEG"),
        ("none", np.zeros((8, 8), np.uint8), "UINT8", "image", "unknown model"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            ask(model, array, datatype, name)


def test_not_a_number_goes_through_and_harms_nobody(client: triton.InferenceServerClient) -> None:
    batch = np.full((1, 3, 8, 8), np.nan, np.float32)
    tensor = triton.InferInput("x", list(batch.shape), "FP32").set_data_from_numpy(batch)
    assert np.isnan(client.infer("colours.net", [tensor]).as_numpy("logits")).all()


def test_a_timeout_as_a_parameter_is_a_deadline(http: httpx.Client) -> None:
    entry = {"name": "x", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0.5] * 192}
    for microseconds, status in ((50_000_000, 200), (1, 504)):
        asked = {"inputs": [entry], "parameters": {"timeout": microseconds}}
        reply = http.post("/v2/models/colours.net/infer", json=asked)
        assert reply.status_code == status, reply.text
    assert "deadline passed" in reply.json()["error"] and int(reply.headers["retry-after"]) >= 1


def test_a_body_over_the_limit_is_413_however_it_comes(repo: Path) -> None:
    with served(repo, "--max-body", "1") as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        large = bytes(3 << 20)
        assert http.post("/predict/colours", content=large).status_code == 413
        chunks = (large[:65536] for _ in range(100))
        assert http.post("/predict/colours", content=chunks).status_code == 413
        assert best(http.post("/predict/colours", content=picture("red"))) == "red"


async def test_a_thousand_uploads_at_once_each_get_their_own_answer(url: str) -> None:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    pictures = {colour: picture(colour, (64, 48)) for colour in LABELS}
    everybody = asyncio.Event()

    async def ask(number: int) -> bytes:
        colour = LABELS[number % 3]
        head = "POST /predict/colours HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {len(pictures[colour])}\r\n"
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        await everybody.wait()
        writer.write(pictures[colour])
        reply = await reader.read()
        writer.close()
        status, _, rest = reply.partition(b"\r\n")
        if b" 200 " in status:
            assert json.loads(rest.partition(b"\r\n\r\n")[2])["answer"][0]["label"] == colour
        else:
            assert b" 503 " in status and b"retry-after" in rest.lower()
        return status

    asking = [asyncio.ensure_future(ask(number)) for number in range(1000)]
    await asyncio.sleep(1)
    everybody.set()
    statuses = await asyncio.wait_for(asyncio.gather(*asking), 120)
    assert sum(b" 200 " in status for status in statuses) >= 900


def test_connections_cut_in_the_middle_leave_the_server_well(url: str, http: httpx.Client) -> None:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    head = b"POST /predict/colours HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    for part in (head[:20], head, head + b"abc", b"\x16\x03\x01\x02\x00garbage\r\n\r\n"):
        for _ in range(10):
            with socket.create_connection((host, port), timeout=10) as sock:
                sock.sendall(part)
    assert best(http.post("/predict/colours", content=picture("blue"))) == "blue"


def test_stopping_finishes_what_was_taken(repo: Path) -> None:
    with served(repo) as (url, server):
        host, port = urlsplit(url).hostname, urlsplit(url).port
        data = picture("green", (400, 400))
        answers: list[bytes] = []

        def slow_upload(sock: socket.socket) -> None:
            sock.sendall(data[100:])
            reply = b""
            while part := sock.recv(65536):  # until the stopping server closes the connection
                reply += part
            answers.append(reply)

        with socket.create_connection((host, port), timeout=30) as sock:
            head = f"POST /predict/colours HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            sock.sendall(head.encode() + data[:100])
            time.sleep(0.5)
            server.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            thread = threading.Thread(target=slow_upload, args=(sock,))
            thread.start()
            thread.join(30)
        assert answers and answers[0].startswith(b"HTTP/1.1 200") and b'"green"' in answers[0]
        assert server.wait(30) in (0, -signal.SIGTERM)


def test_stopping_does_not_wait_for_what_still_loads(repo: Path) -> None:
    command = [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0", "--executors", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        process = psutil.Process(server.pid)
        end = time.monotonic() + 30
        while not (executors := process.children()):
            assert time.monotonic() < end and server.poll() is None
            time.sleep(0.02)
        executors[0].suspend()  # it will not be through with loading by itself
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)
        assert not executors[0].is_running() or executors[0].status() == psutil.STATUS_ZOMBIE


def test_a_taken_port_and_a_missing_repository_are_said_at_once(repo: Path, url: str, tmp_path: Path) -> None:
    import sys

    def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modelport", "serve", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    taken = serve(str(repo), "--port", str(urlsplit(url).port))
    assert taken.returncode == 2 and "--port" in taken.stderr
    missing = serve(str(tmp_path / "none"), "--port", "0")
    assert missing.returncode == 3 and "Traceback" not in missing.stderr


def test_a_server_without_one_model_that_loads_does_not_stay(tmp_path: Path) -> None:
    import sys

    repo = pack_colours(tmp_path)
    (repo / "colours" / "1" / "net.onnx").write_bytes(b"damaged")
    command = [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3 and "net.onnx" in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_does_not_load_leaves_the_others_up(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path, name="good")
    pack_colours(tmp_path, name="bad")
    net = repo / "bad" / "1" / "net.onnx"
    net.write_bytes(net.read_bytes()[:-1] + b"\x00")
    with served(repo) as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        assert best(http.post("/predict/good", content=picture("red"))) == "red"
        reply = http.post("/predict/bad", content=picture("red"))
        assert reply.status_code == 503 and "net.onnx" in reply.json()["error"]
        assert str(tmp_path) not in reply.text
        assert str(tmp_path) not in http.get("/api/models").text + http.post("/v2/repository/index").text
        assert http.get("/v2/health/ready").status_code == 503
        states = {m["name"]: m["state"] for m in http.get("/api/models").json()["models"]}
        assert states == {"good": "ready", "bad": "failed"}
        assert json.loads(http.get("/v2/health/live").text) == {"live": True}
