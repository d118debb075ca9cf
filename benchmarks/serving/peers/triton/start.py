"""Starts Triton itself, as it comes inside nvidia-pytriton, with one model of its Python backend.

The backend's process imports from this environment; the package's own proxy is left out, which makes it
about twice as fast.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from common import DEADLINE, MAX_BATCH, PORT, WORKERS, Network

CONFIG = """name: "network"
backend: "python"
max_batch_size: {batch}
input [ {{ name: "{network.name}" data_type: {dtype} dims: {shape} }} ]
output [ {{ name: "{network.output}" data_type: TYPE_FP32 dims: [ {network.outputs} ] }} ]
dynamic_batching {{ max_queue_delay_microseconds: {delay} {policy} }}
instance_group [ {{ kind: KIND_CPU count: {workers} }} ]
"""


def main() -> None:
    """Lay out the backend and the repository in a folder of its own, and become Triton."""
    package = importlib.util.find_spec("pytriton")
    assert package is not None
    assert package.origin is not None
    triton = Path(package.origin).parent / "tritonserver"
    folder = Path(os.environ["FOLDER"])
    shutil.rmtree(folder, ignore_errors=True)
    backend = folder / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(triton / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    (folder / "models" / "network" / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "model.py", folder / "models" / "network" / "1")
    network = Network()
    policy = ""
    if DEADLINE:
        microseconds = round(DEADLINE * 1e6)
        policy = (
            "default_queue_policy { timeout_action: REJECT allow_timeout_override: true "
            f"default_timeout_microseconds: {microseconds} }}"
        )
    config = CONFIG.format(
        batch=MAX_BATCH,
        network=network,
        dtype="TYPE_UINT8" if network.dtype == "uint8" else "TYPE_FP32",
        shape=list(network.shape),
        delay=os.environ.get("DELAY", "0"),
        policy=policy,
        workers=WORKERS,
    )
    (folder / "models" / "network" / "config.pbtxt").write_text(config)
    # The backend embeds the first Python on PATH; with another NumPy than its own it reads wrong numbers.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["LD_LIBRARY_PATH"] = str(triton.parents[1] / "nvidia_pytriton.libs")
    flags = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "http-address": "127.0.0.1",
        "http-port": PORT,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
    }
    binary = triton / "bin" / "tritonserver"
    os.execv(binary, [str(binary), *(f"--{name}={value}" for name, value in flags.items())])


if __name__ == "__main__":
    main()
