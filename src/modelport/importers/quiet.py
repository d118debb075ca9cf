"""Frameworks talk while they load and export: what matters is raised or noted, the rest is kept away."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

LOGGERS = (
    "torch",
    "torch.onnx",
    "torch.export",
    "onnxscript",
    "onnx_ir",
    "tensorflow",
    "absl",
    "tf2onnx",
    "keras",
)


@contextlib.contextmanager
def silenced(*descriptors: int) -> Iterator[None]:
    """Nothing on the process's own standard output (1) or error (2) for the length of a block.

    Frameworks' C++ writes there: graphs that it cannot export, banners while it starts. Callers of the
    command line parse what is there.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in descriptors]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in descriptors:
            os.dup2(nowhere, descriptor)
        yield
    finally:
        if os.name == "posix":
            # What C has buffered would come out later.
            ctypes.CDLL(None).fflush(None)
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, prints or log lines for the length of a block."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
