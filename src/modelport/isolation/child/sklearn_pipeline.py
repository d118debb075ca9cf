"""A fitted pipeline of scikit-learn, or one estimator, to ONNX with the columns that it takes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .columns import Column, frame_of
from .converter import NotConverted, Refused
from .frames import Array
from .onnx_writer import Writer, array_of
from .sklearn_columns import columns_of, is_named
from .sklearn_file import opened
from .sklearn_models import classes_of, is_classifier, kind_of_model, predict, scores, unwrapped
from .sklearn_samples import accepted_rows, differing_answers
from .sklearn_svm import contests, in_pairs
from .sklearn_text import TEXT, is_text_model, sample_texts

SCORES, VALUE = "scores", "value"


class Converter:
    """`open` reads and converts the model; `run` computes a batch with the framework itself."""

    def __init__(self) -> None:
        self.model: Any = None
        self.columns: list[Column] = []
        self.named = False
        self.rows: dict[str, Array] = {}

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            about, onnx = self.open(str(fields["path"]), trusted=bool(fields.get("trust")))
            return about, {"onnx": onnx}
        if fields["do"] == "samples":
            return {}, self.samples()
        return {}, self.run(arrays)

    def open(self, path: str, *, trusted: bool) -> tuple[dict[str, Any], Array]:
        """What the model is (JSON), and the ONNX file as uint8[bytes].

        Raises:
            Refused: damaged, or not a fitted model. NotConverted: a step that is not converted, by name.
        """
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            held, kind = self.read(path, trusted)
        self.model = unwrapped(held)
        _check(self.model)
        if contests(self.model):
            in_pairs(self.model)
        about, onnx = self._text() if is_text_model(self.model) else self._table()
        about["notes"] = [*_versions(said), *about.get("notes", [])]
        return {**about, "framework": self.framework(), "kind": kind}, onnx

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """A batch by the columns' names to `scores` [batch, classes] or `value` [batch, targets]."""
        name = SCORES if is_classifier(self.model) else VALUE
        if is_text_model(self.model):
            rows: Any = arrays[TEXT].reshape(-1).tolist()
        else:
            rows = frame_of(self.columns, arrays, named=self.named)
        return {name: _shaped(scores(self.model, rows), name)}

    def samples(self) -> dict[str, Array]:
        """Made-up rows, each column [rows, 1], or texts [rows, 1]."""
        return sample_texts(self.model) if is_text_model(self.model) else self.rows

    def read(self, path: str, trusted: bool) -> tuple[Any, str]:
        """The fitted model in a file, and the file's kind; readers of other formats put theirs here.

        Raises:
            Refused, NotConverted: see `open`.
        """
        return opened(path, trusted)

    def framework(self) -> str:
        """The framework with its version, and that of a booster in the pipeline."""
        return _framework(self.model)

    def _text(self) -> tuple[dict[str, Any], Array]:
        if not is_classifier(self.model):
            raise NotConverted("a model of texts that is no classifier is not converted")
        writer = Writer()
        block = predict(writer, self.model, [writer.input(TEXT, "string")])
        scored = writer.cast(block.name, "float64")
        model = writer.model("pipeline", [(scored, SCORES, "float64", block.width)])
        texts = sample_texts(self.model)[TEXT].reshape(-1).tolist()
        notes = differing_answers(self.model, scores(self.model, texts), texts)
        labels = [str(label) for label in classes_of(self.model)]
        return {"task": "text-classification", "labels": labels, "notes": notes}, array_of(model)

    def _table(self) -> tuple[dict[str, Any], Array]:
        self.columns = columns_of(self.model)
        self.named = is_named(self.model)
        writer = Writer()
        frame = [writer.input(column.name, column.dtype) for column in self.columns]
        classifier = is_classifier(self.model)
        block = predict(writer, self.model, frame)
        name = SCORES if classifier else VALUE
        width = block.width if classifier or block.width > 1 else 0
        value = writer.cast(block.name, "float64")
        if not width:
            value = writer.op("Reshape", value, writer.constant([-1], "int64"))
        model = writer.model("pipeline", [(value, name, "float64", width)])
        used = {given.name for given in model.graph.input}
        for column in self.columns:
            column.used = column.name in used
        notes = _notes(self.columns, contests(self.model))
        self.rows = accepted_rows(self.columns, self.run)
        if classifier:
            rows = frame_of(self.columns, self.rows, named=self.named)
            notes += differing_answers(self.model, scores(self.model, rows), rows)
        about = {
            "task": "tabular-classification" if classifier else "tabular-regression",
            "columns": [column.data() for column in self.columns if column.used],
            "labels": [str(label) for label in classes_of(self.model)] if classifier else [],
            "notes": notes,
            "probabilities": hasattr(self.model, "predict_proba"),
        }
        return about, array_of(model)


def _shaped(values: Array, name: str) -> Array:
    return values.reshape(-1) if name == VALUE and values.shape[1] == 1 else values


def _check(model: Any) -> None:
    name = type(model).__name__
    if isinstance(model, dict):
        inside = ", ".join(f"{key!r}: {type(value).__name__}" for key, value in list(model.items())[:6])
        raise NotConverted(f"the file holds a dict ({inside})", "save the model itself, and pack that")
    if not hasattr(model, "predict"):
        raise NotConverted(
            f"the file holds {type(model).__module__}.{name}, which predicts nothing",
            "save the whole pipeline with its last step, a classifier or a regressor",
        )
    if (
        is_classifier(model)
        and isinstance(getattr(model, "classes_", None), list)
        and not _flat(model.classes_)
    ):
        raise NotConverted(f"{name} answers several questions at once", "fit and pack one model for each")
    if (kind := kind_of_model(model)) not in ("classifier", "regressor", "ranker"):
        article = "an" if kind.startswith("o") else "a"
        raise NotConverted(
            f"{name} is {article} {kind}; classifiers and regressors are converted",
            "skl2onnx may convert it: pack the ONNX file that it writes",
        )
    try:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(model)
    except (ValueError, TypeError) as problem:
        if type(problem).__name__ == "NotFittedError":
            raise Refused(f"the {name} in the file was never fitted", "fit it, and save it then") from None


def _flat(classes: list[Any]) -> bool:
    return all(np.ndim(each) == 0 for each in classes)


def _framework(model: Any) -> str:
    from importlib.metadata import version

    import sklearn

    found = [f"scikit-learn {sklearn.__version__}"]
    packages = {"xgboost": "xgboost", "lightgbm": "lightgbm", "catboost": "catboost"}
    own = {type(step).__module__.split(".")[0] for step in _inside(model)}
    for package in packages:
        if package in own:
            try:
                found.append(f"{package} {version(package)}")
            except ModuleNotFoundError:  # under its other name
                found.append(f"{package} {version(f'{package}-cpu')}")
    return ", ".join(found)


def _inside(model: Any) -> list[Any]:
    steps = getattr(model, "steps", None)
    return [each for _, step in steps for each in _inside(step)] if steps else [model]


def _versions(said: list[Any]) -> list[str]:
    """scikit-learn's warning of a file that another version wrote, once."""
    for warning in said:
        if type(warning.message).__name__ == "InconsistentVersionWarning":
            problem = warning.message
            return [
                f"warning: saved with scikit-learn {problem.original_sklearn_version}, read with "
                f"{problem.current_sklearn_version}, which may compute something else"
            ]
    return []


def _notes(columns: list[Column], classes: int) -> list[str]:
    idle = [column.name for column in columns if not column.used]
    shown = ", ".join(idle[:4]) + (f" and {len(idle) - 4} more" if len(idle) > 4 else "")
    notes = [f"columns that the model does not use were left out: {shown}"] if idle else []
    if classes:
        pairs = classes * (classes - 1) // 2
        notes.append(
            f"the scores are the share of {pairs} contests of two classes that each class won, which the "
            "model's predict counts; fitted with probability=True it gives probabilities"
        )
    return notes
