"""FastAPI, Pillow, NumPy and ONNX Runtime as a tutorial puts them together, in its two variants.

`/async` is an `async def` that computes in the event loop; `/threads` is a `def`, which FastAPI runs in its
thread pool. Each takes the file of a form, or with `-raw` the bytes themselves.
"""

from typing import Any

import tutorial
from fastapi import Body, FastAPI, Request, UploadFile

app = FastAPI()
session = tutorial.session()


@app.post("/async")
async def in_the_loop(file: UploadFile) -> dict[str, Any]:
    """A form, in the event loop."""
    return {"answer": tutorial.answer(session, await file.read())}


@app.post("/threads")
def in_threads(file: UploadFile) -> dict[str, Any]:
    """A form, in a thread."""
    return {"answer": tutorial.answer(session, file.file.read())}


@app.post("/async-raw")
async def raw_in_the_loop(request: Request) -> dict[str, Any]:
    """The bytes, in the event loop."""
    return {"answer": tutorial.answer(session, await request.body())}


@app.post("/threads-raw")
def raw_in_threads(body: bytes = Body(media_type="image/jpeg")) -> dict[str, Any]:
    """The bytes, in a thread."""
    return {"answer": tutorial.answer(session, body)}
