"""Writes MLServer's settings and becomes it: FOLDER PORT GRPC_PORT."""

import json
import os
import sys
from pathlib import Path

import models


def main() -> None:
    """Start it."""
    folder, port, grpc_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for name, (taken, given) in models.MODELS.items():
        (folder / name).mkdir(parents=True)
        settings = {
            "name": name,
            "implementation": "mlserver_runtime.Computed",
            "inputs": models.metadata(taken),
            "outputs": models.metadata(given),
            "versions": ["1"],
            "parameters": {"version": "1"},
        }
        (folder / name / "model-settings.json").write_text(json.dumps(settings))
    server = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc_port, "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(server | {"metrics_endpoint": None, "debug": False}))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.chdir(folder)
    mlserver = Path(sys.executable).with_name("mlserver")
    os.execv(mlserver, [str(mlserver), "start", str(folder)])


if __name__ == "__main__":
    main()
