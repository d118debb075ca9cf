"""`modelport serve --grpc-port`: both protocols on one server, and Triton's own load generator on either."""

from __future__ import annotations

import contextlib
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
REQUESTS = 200


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
    assert done.returncode == 4 and "pip install 'modelport[grpc]', or '.[grpc]' in a checkout" in done.stderr
    assert "Traceback" not in done.stderr


def _answered(http: str, model: str) -> int:
    """How many requests the server counts as answered."""
    with triton_http.InferenceServerClient(http, network_timeout=5) as client:
        (stats,) = client.get_inference_statistics(model)["model_stats"]
    return int(stats["inference_stats"]["success"]["count"])


def _analyzed(command: list[str | Path], http: str, model: str) -> subprocess.CompletedProcess[str]:
    """What the tool says.

    With `--request-count` it starts its threads, prints "Request concurrency", and only then forgets all
    answers it has so far (`InferenceProfiler::ProfileHelper`, `SwapRequestRecords`): an answer that came
    before is missing for ever, its threads have ended, and its main thread sleeps until the full number is
    there. `strace -f -e trace=write -e inject=write:delay_exit=100000` makes every run so, over HTTP as
    over gRPC. So: where the server has answered all and the tool does not end, it gets another go; where
    the server owes an answer, the test fails.
    """
    libraries = TOOL.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
    for _ in range(4):
        owed = _answered(http, model) + REQUESTS
        with subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as tool:
            try:
                for _ in range(10):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        said = tool.communicate(timeout=12)
                        return subprocess.CompletedProcess(command, tool.returncode, *said)
                    owing = owed - _answered(http, model)
                    if owing <= 0:
                        break
                else:
                    pytest.fail(f"the server owes {owing} of {REQUESTS} answers")
            finally:
                tool.kill()
    pytest.fail("perf_analyzer did not end in four runs, with all its requests answered")


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
        str(REQUESTS),
    ]
    done = _analyzed([*command, "--concurrency-range", "4", *options], both[0], options[1])
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Throughput:" in said and "p99 latency" in said
    # The server's side of it comes from the statistics before and after.
    count = re.search(r"Inference count: (\d+)", said)
    assert count and int(count[1]) >= 100, said  # what was in flight at the edges is not counted
    assert re.search(r"Avg request latency: \d+ usec \(overhead \d+ usec \+ queue \d+ usec", said), said
