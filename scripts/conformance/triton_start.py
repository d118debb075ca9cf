"""Lays out a repository and becomes Triton, as it comes inside nvidia-pytriton: FOLDER PORT GRPC_PORT."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import models

TYPES = {"BYTES": "TYPE_STRING"}


def config(name: str) -> str:
    """config.pbtxt of a model."""
    lines = [f'name: "{name}"', 'backend: "python"', "max_batch_size: 32"]
    for word, tensors in zip(("input", "output"), models.MODELS[name], strict=True):
        for tensor, kind, size in tensors:
            lines.append(
                f'{word} {{ name: "{tensor}" data_type: {TYPES.get(kind, "TYPE_" + kind)} dims: [ {size} ] }}'
            )
    lines.append("instance_group { kind: KIND_CPU count: 1 }")
    return "\n".join(lines)


def main() -> None:
    """Start it."""
    folder, port, grpc_port = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    package = importlib.util.find_spec("pytriton")
    assert package is not None
    assert package.origin is not None
    triton = Path(package.origin).parent / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(triton / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    here = Path(__file__).parent
    for name in models.MODELS:
        (folder / "models" / name / "1").mkdir(parents=True)
        (folder / "models" / name / "config.pbtxt").write_text(config(name))
        code = (here / "triton_model.py").read_text().replace("@HERE@", str(here))
        (folder / "models" / name / "1" / "model.py").write_text(code)
    # The backend embeds the first Python on PATH; with another NumPy than its own it reads wrong numbers.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["LD_LIBRARY_PATH"] = str(triton.parents[1] / "nvidia_pytriton.libs")
    flags = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "http-address": "127.0.0.1",
        "http-port": port,
        "grpc-address": "127.0.0.1",
        "grpc-port": grpc_port,
        "allow-metrics": "false",
        "log-info": "false",
    }
    binary = triton / "bin" / "tritonserver"
    os.execv(binary, [str(binary), *(f"--{name}={value}" for name, value in flags.items())])


if __name__ == "__main__":
    main()
