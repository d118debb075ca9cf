"""A process that answers one item and says how much memory it took: `python -m modelport.optimize.startup
BUNDLE ITEM HOW`, where HOW is JSON: `{"variant": …, "runtime": …, "settings": {…}}`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..isolation.child.memory import peak_bytes
from ..runtimes.pipeline import Pipeline


def main(bundle: str, item: str, how: str) -> None:
    """Answer the file `item`, and print `{"peak_bytes": ...}`."""
    with Pipeline.open(bundle, **json.loads(how)) as pipeline:
        pipeline.answer(pipeline.decode(Path(item).read_bytes()))
    print(json.dumps({"peak_bytes": peak_bytes() or 0}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
