"""`modelport serve --grpc-port`: both protocols on one server, and Triton's own load generator on either."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ...colours import LABELS, picture, served
from .test_client import ask_colour

TOOL = Path.home() / ".cache" / "modelport-bench" / "venv" / "perf"
ANALYZER = TOOL / "bin" / "perf_analyzer"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def both(colours: Path) -> Iterator[tuple[str, str]]:
    """The addresses of HTTP and of gRPC."""
    port = free_port()
    with served(colours, "--grpc-port", str(port)) as (url, _):
        yield urlsplit(url).netloc, f"127.0.0.1:{port}"


def test_both_protocols_answer_alike(both: tuple[str, str]) -> None:
    with triton_http.InferenceServerClient(both[0]) as http, triton.InferenceServerClient(both[1]) as client:
        for colour in LABELS:
            data = np.array([picture(colour)], object)
            image = triton_http.InferInput("image", [1], "BYTES").set_data_from_numpy(data)
            answer = http.infer("colours", [image]).as_numpy("labels")
            assert answer[0][0].decode() == ask_colour(client, colour) == colour
        config = client.get_model_config("colours.net", as_json=True)["config"]
        assert config["max_batch_size"] == http.get_model_config("colours.net")["max_batch_size"]
        for name in ("colours", "colours.net"):
            ours = client.get_model_metadata(name, as_json=True)
            theirs = http.get_model_metadata(name)
            assert [t["name"] for t in ours["inputs"]] == [t["name"] for t in theirs["inputs"]]
            assert ours["versions"] == theirs["versions"] and ours["platform"] == theirs["platform"]
        counted = http.get_inference_statistics("colours")["model_stats"][0]["inference_stats"]["success"]
        assert counted["count"] == 2 * len(LABELS)


def test_a_sigterm_ends_both(colours: Path) -> None:
    port = free_port()
    with served(colours, "--grpc-port", str(port)) as (_, server):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            server.send_signal(signal.SIGTERM)
            assert [each.status for each in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert server.wait(30) == 0


def test_a_port_in_use_and_a_missing_package_are_told_in_words(colours: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ["serve", str(colours), "--port", "0", "--grpc-port", str(port)]
        done = subprocess.run(
            [sys.executable, "-m", "modelport", *command], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2 and f"cannot serve gRPC on 127.0.0.1:{port}" in done.stderr
    code = "import sys; sys.modules['grpc'] = None; from modelport.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and "pip install --upgrade 'modelport[grpc]'" in done.stderr
    assert "Traceback" not in done.stderr


def _analyzed(command: list[str | Path], both: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """What the tool says. Once in some fifty runs it does not end: then the server has to answer others at
    once, and the tool gets a second go."""
    libraries = TOOL.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
    for patience in (40, 120):
        try:
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience)
        except subprocess.TimeoutExpired:
            with triton_http.InferenceServerClient(both[0], network_timeout=5) as http:
                assert http.is_server_ready()
                image = triton_http.InferInput("image", [1], "BYTES")
                image.set_data_from_numpy(np.array([picture(LABELS[0])], object))
                assert http.infer("colours", [image]).as_numpy("labels")[0][0].decode() == LABELS[0]
    pytest.fail("perf_analyzer did not end in two runs")


@pytest.mark.skipif(not ANALYZER.is_file(), reason=f"perf_analyzer is not installed at {ANALYZER}")
@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("http", ["-m", "colours.net"]),
        ("grpc", ["-m", "colours.net"]),
        ("grpc", ["-m", "colours.net", "-b", "8", "--async"]),
        ("grpc", ["-m", "colours.net", "--async", "--streaming"]),
        ("http", ["-m", "colours", "--shape", "image:32,32,3"]),
        ("grpc", ["-m", "colours", "--shape", "image:32,32,3"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_perf_analyzer(both: tuple[str, str], protocol: str, options: list[str]) -> None:
    command: list[str | Path] = [
        ANALYZER,
        "-i",
        protocol,
        "-u",
        both[protocol == "grpc"],
        "--request-count",
        "200",
    ]
    done = _analyzed([*command, "--concurrency-range", "4", *options], both)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Throughput:" in said and "p99 latency" in said
    # The server's side of it comes from the statistics before and after.
    count = re.search(r"Inference count: (\d+)", said)
    assert count and int(count[1]) >= 100, said  # what was in flight at the edges is not counted
    assert re.search(r"Avg request latency: \d+ usec \(overhead \d+ usec \+ queue \d+ usec", said), said
