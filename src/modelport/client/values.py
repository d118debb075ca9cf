"""What a client hands to its caller: answers, what is known of a model, states, counts. Frozen values.

Times are in seconds. Nothing here knows how any of it travels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from ..errors import InputError, did_you_mean
from ..tensors import Array, TensorSpec

_QUOTED = re.compile(r'"([^"]*)"')
_SEPARATORS = re.compile(r"[,;=]")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Where one call's time went, in seconds; a stage that the server did not report is 0."""

    decode: float = 0.0
    pre: float = 0.0
    queue: float = 0.0
    net: float = 0.0
    post: float = 0.0
    total: float = 0.0
    """All of it, by the server's clock."""
    round_trip: float = 0.0
    """All of it by the caller's clock: the network, repeated attempts and the pauses between them too."""


class Label(msgspec.Struct, frozen=True):
    """One thing that the model saw, and how sure it is."""

    label: str
    score: float


class Detection(Label, frozen=True):
    """One object that the model found, how sure it is, and where: in pixels of the picture as it was sent."""

    index: int
    """The number of its class."""
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2: its left upper and right lower corner."""


class Prediction(msgspec.Struct, frozen=True):
    """The answer to one item."""

    model: str
    version: str
    answer: tuple[Label, ...]
    """Labels as the model orders them, the best first: of a detector each is a `Detection`, and it may find
    none. Empty for a model that has none."""
    outputs: Mapping[str, Array]
    """The answer's tensors by name, without a batch axis, for a model that has no labels; else empty."""
    timing: Timing

    @property
    def top(self) -> Label:
        """The best label.

        Raises:
            InputError: the model answers with no labels.
        """
        if not self.answer:
            if not self.outputs:
                raise InputError(f"{self.model!r} found nothing", hint="look at .answer, which is empty then")
            known = ", ".join(self.outputs)
            raise InputError(
                f"the answer of {self.model!r} has no labels", hint=f"look at .outputs, which has {known}"
            )
        return self.answer[0]

    @property
    def value(self) -> float:
        """The predicted number.

        Raises:
            InputError: the model predicts no single number.
        """
        array = self.outputs.get("value")
        if array is None or array.size != 1:
            raise InputError(f"the answer of {self.model!r} is no single number", hint="look at .outputs")
        return float(array.item())

    @property
    def detections(self) -> tuple[Detection, ...]:
        """The objects that were found, the best first.

        Raises:
            InputError: the model is no detector.
        """
        found = tuple(entry for entry in self.answer if isinstance(entry, Detection))
        if len(found) != len(self.answer) or self.outputs:
            raise InputError(
                f"the answer of {self.model!r} has no boxes", hint="look at .answer and .outputs"
            )
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels alone, in the answer's order."""
        return tuple(entry.label for entry in self.answer)

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores alone, in the answer's order."""
        return tuple(entry.score for entry in self.answer)


class Output(msgspec.Struct, frozen=True):
    """An output to ask for; `classification=3` asks for its three best classes instead of its numbers."""

    name: str
    classification: int = 0


class ClassScore(msgspec.Struct, frozen=True):
    """One class of a classification output; `label` is empty where the server knows none."""

    score: float
    index: int
    label: str = ""


class InferResult(Mapping[str, Array]):
    """The output tensors by name, and what else the reply says.

    Arrays are in this machine's byte order, aligned and writable; several may share one block of memory.
    """

    __slots__ = ("_arrays", "id", "model", "parameters", "server_timing", "took", "version")

    def __init__(
        self,
        arrays: Mapping[str, Array],
        *,
        model: str,
        version: str,
        id: str | None = None,
        parameters: Mapping[str, object] | None = None,
        server_timing: str | None = None,
        took: float = 0.0,
    ) -> None:
        self._arrays = arrays
        self.model = model
        self.version = version
        self.id = id
        self.parameters = parameters or {}
        self.server_timing = server_timing
        """The reply's header of that name, as it came."""
        self.took = took
        """Seconds by the caller's clock."""

    @property
    def timing(self) -> Timing:
        """Where the time went; read from the header when it is asked for."""
        return server_timing(self.server_timing, self.took)

    def __getitem__(self, name: str) -> Array:
        try:
            return self._arrays[name]
        except KeyError:
            hint = did_you_mean(name, self._arrays)
            raise KeyError(f"the reply of {self.model!r} has no output {name!r}; {hint}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        tensors = ", ".join(f"{name}: {a.dtype.name}{list(a.shape)}" for name, a in self._arrays.items())
        return f"InferResult({self.model!r}, version {self.version!r}, {tensors})"

    def classes(self, name: str) -> list[list[ClassScore]]:
        """An output that was asked for as `Output(name, classification=n)`: for each row its best classes.

        Raises:
            KeyError: no such output. InputError: it holds no classes.
        """
        texts = self[name]
        rows = texts.reshape(1, -1) if texts.ndim == 1 else texts.reshape(len(texts), -1)
        return [[_class_score(text, name) for text in row] for row in rows]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and gives. A dimension of any size is -1."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ServerMetadata(msgspec.Struct, frozen=True):
    """Who answers at this address, and which extensions of the protocol it speaks."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelState(msgspec.Struct, frozen=True):
    """One version in the server's repository: READY, LOADING, UNLOADING or UNAVAILABLE (with the reason)."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self.state == "READY"


class Spent(msgspec.Struct, frozen=True):
    """How often a stage ran, and how long in all."""

    count: int = 0
    seconds: float = 0.0


class BatchStatistics(msgspec.Struct, frozen=True):
    """The executions of one batch size."""

    batch_size: int
    compute_infer: Spent


class ModelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has done since it was loaded."""

    name: str
    version: str
    last_inference: float
    """Seconds since 1970; 0 if there was none."""
    inference_count: int
    """Rows that were answered."""
    execution_count: int
    """Batches that were run."""
    stages: Mapping[str, Spent]
    """By the protocol's names: success, fail, queue, compute_input, compute_infer, compute_output …"""
    batches: tuple[BatchStatistics, ...]


def prediction_of(result: InferResult) -> Prediction:
    """One item's tensors (no batch axis) as a prediction, with labels where the model gives them."""
    found = _detections(result)
    if found is not None:
        return Prediction(result.model, result.version, found, {}, result.timing)
    scores = result.get("scores")
    names = result.get("labels", result.get("indices"))
    if scores is not None and names is not None and scores.ndim == 1 and scores.shape == names.shape:
        pairs = zip(names, scores, strict=True)
        answer = tuple(Label(_text(name), float(score)) for name, score in pairs)
        return Prediction(result.model, result.version, answer, {}, result.timing)
    return Prediction(result.model, result.version, (), dict(result), result.timing)


def _detections(result: InferResult) -> tuple[Detection, ...] | None:
    """The objects in a detector's tensors, `count` of them; None where they are no detector's."""
    boxes, scores, classes, count = (result.get(name) for name in ("boxes", "scores", "classes", "count"))
    if boxes is None or scores is None or classes is None or count is None:
        return None
    if count.size != 1 or boxes.ndim != 2 or boxes.shape != (len(scores), 4) or scores.shape != classes.shape:
        return None
    many = max(0, int(count.flat[0]))
    numbers = classes[:many].tolist()
    names = result.get("labels", classes)[:many]
    return tuple(
        Detection(_text(name), float(score), int(number), (box[0], box[1], box[2], box[3]))
        for name, score, number, box in zip(names, scores[:many], numbers, boxes[:many].tolist(), strict=True)
    )


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _class_score(value: object, name: str) -> ClassScore:
    """One `score:index[:label]`; a label may hold colons."""
    text = _text(value)
    score, _, rest = text.partition(":")
    index, _, label = rest.partition(":")
    try:
        return ClassScore(float(score), int(index), label)
    except ValueError:
        raise InputError(
            f"output {name!r} holds no classes: {text[:40]!r} is not score:index[:label]",
            hint=f"ask for it as Output({name!r}, classification=3)",
        ) from None


def server_timing(header: str | None, took: float = 0.0) -> Timing:
    """`Server-Timing: decode;dur=0.2, total;dur=1.9` (milliseconds; W3C Server Timing) in seconds."""
    found: dict[str, float] = {}
    # Descriptions are in quotes, and may hold the separators.
    text = _QUOTED.sub(lambda quoted: _SEPARATORS.sub(" ", quoted[1]), (header or "")[:2000])
    for entry in text.split(","):
        name, *parts = (part.strip() for part in entry.split(";"))
        for part in parts:
            key, _, value = part.partition("=")
            if key.strip() == "dur" and _NUMBER.fullmatch(value.strip()):
                found[name] = float(value) / 1e3
    return timing_of(found, took)


def timing_of(stages: Mapping[str, float], took: float) -> Timing:
    """Stages by name, those that are not known left out."""
    known = {name: seconds for name, seconds in stages.items() if name in Timing.__struct_fields__}
    return Timing(**{**known, "round_trip": took})
