"""Starts MLServer with its adaptive batching and a window of a millisecond."""

import json
import os
import sys
from pathlib import Path

from common import MAX_BATCH, PORT, WORKERS


def main() -> None:
    """Write its two settings files and become it."""
    folder = Path(os.environ["FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    model = {"name": "network", "implementation": "runtime.Runtime"}
    model |= {"max_batch_size": MAX_BATCH, "max_batch_time": 0.001}
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": PORT,
        "grpc_port": PORT + 1,
        "metrics_endpoint": None,
        "gzip_enabled": False,
        "parallel_workers": WORKERS,
        "logging_settings": {
            "version": 1,
            "disable_existing_loggers": True,
            "root": {"level": "WARNING"},
        },
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(settings))
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
    os.chdir(folder)
    mlserver = Path(sys.executable).with_name("mlserver")
    os.execv(mlserver, [str(mlserver), "start", str(folder)])


if __name__ == "__main__":
    main()
