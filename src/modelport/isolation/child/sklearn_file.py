"""Opening a file with a fitted model: skops, joblib or pickle. The last two run what they name."""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .converter import NotConverted, Refused

FRAMEWORKS = ("sklearn", "xgboost", "lightgbm")
FORBIDDEN_MODULES = frozenset(
    {
        *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "runpy", "ctypes", "importlib"),
        *("pty", "webbrowser", "code", "codeop", "multiprocessing", "asyncio", "urllib", "http", "ftplib"),
        *("smtplib", "pip", "commands"),
    }
)
FORBIDDEN = frozenset(
    ("builtins", name) for name in ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint")
)


def opened(path: str, trusted: bool) -> tuple[Any, str]:
    """The object in the file, and `skops`, or `joblib` for both kinds of pickle.

    Raises:
        Refused: damaged, or it names what no model needs. NotConverted: skops does not trust its types and
            neither does the user, or it needs a package that is not here.
    """
    try:
        if zipfile.is_zipfile(path):
            return _skops(path, trusted), "skops"
        return _joblib(path), "joblib"
    except (Refused, NotConverted):
        raise
    except ModuleNotFoundError as problem:
        raise NotConverted(
            f"the file needs the package {str(problem.name).split('.')[0]!r}, which is not installed here",
            "install it beside Modelport, or save the model without it",
        ) from problem
    except AttributeError as problem:
        raise NotConverted(
            f"the file names what is not there: {problem}",
            "classes and functions of your own must be in a package that is installed here",
        ) from problem
    except Exception as problem:
        lines = str(problem).splitlines() or [type(problem).__name__]
        raise Refused(
            f"the file cannot be read: {lines[0][:200]}", "it may be cut short or damaged"
        ) from problem


class _Without(importlib.abc.MetaPathFinder):
    """Packages that are as if they were not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Raises ModuleNotFoundError for them; another finder finds the rest."""
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def _without(*names: str) -> Iterator[None]:
    finder = _Without(*names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _skops(path: str, trusted: bool) -> Any:
    # skops lists scikit-learn's classes by importing all of its modules; one of them imports torch where it
    # is there, which takes as long as the rest.
    with _without("torch"):
        from skops import io

    untrusted = io.get_untrusted_types(file=path)
    odd = [name for name in untrusted if not _harmless(name)]
    if odd and not trusted:
        shown = ", ".join(odd[:6]) + (f" and {len(odd) - 6} more" if len(odd) > 6 else "")
        raise NotConverted(
            f"the skops file holds types that skops does not know to be harmless: {shown}",
            "if you trust whoever made it: --trust (permission=Permission(trust=True) in Python)",
        )
    for name in untrusted:
        _allow(*name.rpartition(".")[::2])
    return io.load(path, trusted=untrusted)


def _harmless(name: str) -> bool:
    """A class of the frameworks that skops has not listed yet; functions are not among them."""
    module, _, attribute = name.rpartition(".")
    if name == "numpy.dtype":
        return True
    if module.split(".")[0] not in FRAMEWORKS:
        return False
    try:
        return isinstance(getattr(importlib.import_module(module), attribute, None), type)
    except ImportError:
        return False


def _joblib(path: str) -> Any:
    """joblib reads plain pickles as well; each name is looked at before it is looked up."""
    import joblib
    from joblib import numpy_pickle

    own = numpy_pickle.NumpyUnpickler

    class Reader(own):  # type: ignore[misc,valid-type]  # Any here: mypy follows no framework
        def find_class(self, module: str, name: str) -> Any:
            _allow(module, name)
            try:
                return super().find_class(module, name)
            except (AttributeError, ModuleNotFoundError) as problem:
                if getattr(problem, "name", None) == module.split(".")[0]:
                    raise  # a whole package that is not there
                raise NotConverted(
                    f"the file needs {module}.{name}, which is not there",
                    "classes and functions of your own must be in a package that is installed here, and "
                    "those of frameworks in the version that the file was saved with",
                ) from problem

    numpy_pickle.NumpyUnpickler = Reader
    try:
        return joblib.load(path)
    finally:
        numpy_pickle.NumpyUnpickler = own


def _allow(module: str, name: str) -> None:
    root = module.split(".")[0]
    if root in FORBIDDEN_MODULES or (module.replace("__builtin__", "builtins"), name) in FORBIDDEN:
        raise Refused(
            f"the file names {module}.{name}, which no model needs",
            "do not open it anywhere; ask whoever made it for a skops file or for ONNX",
        )
