"""A whole bundle that runs, one stage after the other: decode, pre, net, post. No queue, no batching window.

Every stage can be run alone, which is what verification, the command line and the server's engine need.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import TracebackType
from typing import Any, Literal

import msgspec
import numpy as np

from .. import plugins
from ..bundle.manifest import GraphInfo
from ..bundle.options import option_tensors
from ..bundle.store import Bundle
from ..errors import BundleError, InputError, ModelFailed, TooLarge, Unsupported
from ..steps.compile import PRE_STEPS, check_growth, reference_carried
from ..steps.decode import decode_image
from ..steps.lowering import Lowering
from ..steps.row_files import decode_row
from ..steps.rows import check_rows
from ..steps.step import parse_steps
from ..steps.table_lowering import TableLowering
from ..steps.texts import Tokenizer, decode_text
from ..tensors import Array, Tensors, TensorSpec, array_of_json, check_json, readable
from .contract import check_offered, check_signature
from .form import Form, form_of
from .npz import is_npy, is_npz, read_npy, read_npz
from .onnxruntime import OnnxRuntime
from .outputs import ending_in_bytes as ending_in
from .session import Runtime, Session, Settings, run_in_parts

MAX_ROWS = 32
"""Rows that `answer_many` gives the network at once."""
_SHARED = {"pre": ("input", "output"), "net": ("input",), "post": ("output",)}
"""What the graphs of a form with a `post` of its own have in common with the manifest's."""
MAX_TABLE_ROWS = 1024
"""The same of a table's rows, which are small."""


class Pipeline:
    """The three graphs of a bundle, loaded. Thread safe; close it, or use it in a `with` block."""

    def __init__(
        self,
        bundle: Bundle,
        pre: Session,
        net: Session,
        post: Session,
        *,
        form: Form,
        lowered: bool = True,
    ) -> None:
        self.bundle = bundle
        self.form = form
        """What runs as the network, and on what."""
        self._pre = pre
        self._net = net
        self._post = post
        self._packed: Session | None = None
        self._lock = threading.Lock()
        graphs = bundle.manifest.graphs
        self._carried = tuple(spec.name for spec in bundle.manifest.carried)
        said = bundle.manifest.steps.pre if form.pre is None else form.prepares
        self._steps = parse_steps(said, PRE_STEPS, "$.steps.pre")
        prepared = bundle.manifest.graphs.pre.signature.outputs[0].name
        decode, taken_first = bundle.manifest.decode, graphs.pre.signature.inputs
        self._lowering = Lowering.of(self._steps, prepared) if lowered else None
        self._table = TableLowering(bundle.manifest, self._steps) if decode.kind == "table" else None
        self._tokenizer = (
            Tokenizer(bundle.read(decode.tokenizer), decode, [spec.name for spec in taken_first])
            if decode.tokenizer is not None
            else None
        )

    @property
    def variant(self) -> str:
        """The form of the network that runs; empty for the one that was packed."""
        return self.form.variant

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | os.PathLike[str],
        *,
        threads: int = 1,
        runtime: str | None = None,
        settings: Settings | None = None,
        lowered: bool = True,
        variant: str | None = None,
    ) -> Pipeline:
        """Load the graphs of `bundle`; `threads` is what one run of the network may use.

        `variant`: the form of the network, by name; "" is the one that was packed, None the one that was
        chosen for machines like this. `runtime` and `settings` are the network's: None for those of the
        variant; what is around the network is run by ONNX Runtime. `lowered` false prepares every picture by
        the graph, also where native code gives the same bytes.

        Raises:
            BundleError: a graph is damaged, or is not what the manifest says.
            NotFound: no such variant.
            Unsupported: no such runtime, or it refuses the bundle.
            UsageError: a setting that the runtime does not have.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        form = form_of(bundle, variant, runtime, settings)
        engine: Runtime = plugins.load("runtimes", form.runtime)()
        if (reason := engine.refuses(bundle)) is not None:
            raise Unsupported(f"{form.runtime} does not run {bundle.manifest.name}: {reason}")
        graphs = bundle.manifest.graphs
        offered = [(option.name, option.dtype) for option in bundle.manifest.options]
        with contextlib.ExitStack() as opened:
            sessions: list[Session] = []
            # Items are prepared side by side, so one thread each for the small graphs.
            stages: tuple[tuple[Literal["pre", "net", "post"], GraphInfo], ...] = (
                ("pre", graphs.pre),
                ("net", graphs.net),
                ("post", graphs.post),
            )
            for kind, info in stages:
                data = graph_of(bundle, kind, form)
                try:
                    if kind == "net":
                        session = engine.open(data, threads=threads, settings=form.settings)
                    else:
                        session = OnnxRuntime().open(data)
                except BundleError as problem:
                    raise BundleError(problem.message, at=info.file, hint=problem.hint) from problem
                opened.callback(session.close)
                sides = _SHARED[kind] if form.post else ("input", "output")
                made = sessions[0].signature if form.pre and sessions else graphs.pre.signature
                given = made.outputs if kind == "net" else ()
                check_signature(info, session, sides, given)
                check_offered(info, session, offered if kind == "post" else [])
                sessions.append(session)
            opened.pop_all()
        return cls(bundle, *sessions, form=form, lowered=lowered)

    def close(self) -> None:
        """Free the graphs."""
        for session in (self._pre, self._net, self._post):
            session.close()
        with self._lock:
            if self._packed is not None:
                self._packed.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def decode(self, data: bytes) -> dict[str, Array]:
        """One encoded item to the tensors that `pre` takes.

        A picture becomes `image`: uint8[height, width, 3]. A row of a table (a JSON object or list, a line of
        CSV with or without its header) becomes a tensor of one value for each column; a text becomes `text`,
        or its tokens. Where the bundle takes tensors: a .npy (for a network with one input), a .npz, or JSON
        `{"inputs": {"name": [[…]]}}`, without a batch axis.

        A JPEG is decoded at a fraction of its sides where the form says so.

        Raises:
            InputError, TooLarge, UnsupportedMedia: the bytes are not such an item.
        """
        decode = self.bundle.manifest.decode
        if decode.kind == "image":
            return {"image": decode_image(data, decode, self.form.reduced)}
        if decode.kind == "table":
            return decode_row(data, decode, self.bundle.manifest.columns)
        if decode.kind == "text":
            text = decode_text(data, decode)
            return text if self._tokenizer is None else self._tokenizer.tokens(text)
        if len(data) > decode.max_bytes:
            raise TooLarge(f"{len(data)} bytes; at most {decode.max_bytes} are read")
        tensors = decode_tensors(data, self.bundle.manifest.inputs, limit=decode.max_bytes)
        self.bundle.manifest.graphs.pre.signature.check_inputs(tensors)
        return tensors

    def pre(self, decoded: Tensors, into: Tensors | None = None) -> dict[str, Array]:
        """One decoded item to what the network takes, without the batch axis.

        Args:
            into: arrays of a batch for this item, by the tensor's name. What is made natively is written
                there, where it fits, and that array is in the answer.

        Raises:
            TooLarge: a picture that a resize would make larger than the bundle's `max_pixels`.
            InputError: the tensors do not fit.
        """
        if self._table is not None:
            check_rows(decoded, self.bundle.manifest.columns)
        if self._steps and "image" in decoded and decoded["image"].ndim == 3:
            height, width, _ = decoded["image"].shape
            check_growth(self._steps, height, width, self.bundle.manifest.decode.max_pixels)
            if self._lowering is not None:
                prepared = self._lowering.prepare(decoded["image"], lambda: self._pre.run(decoded), into)
                missing = [name for name in self._carried if name not in prepared]
                return prepared | reference_carried(self._steps, decoded["image"], missing)
        return self._pre.run(decoded)

    def pre_rows(self, rows: Tensors) -> dict[str, Array]:
        """Many rows of a table, `[rows, 1]` for each column, to a batch of what the network takes.

        The first rows go through the graph too, and are compared.

        Raises:
            InputError: they do not fit the columns.
        """
        if self._table is None:
            raise InputError("the bundle takes no rows of a table")
        check_rows(rows, self.bundle.manifest.columns)
        return self._table.prepare(rows, self._pre.run)

    @property
    def carried(self) -> tuple[str, ...]:
        """The tensors of `pre` that the network does not take: they go to `post`, beside its outputs."""
        return self._carried

    def net(self, batch: Tensors) -> dict[str, Array]:
        """The network on a batch. One that was made for a fixed number of rows is run in parts.

        Carried tensors may be in `batch`; the network is not given them.

        Raises:
            InputError: the tensors do not fit; ModelFailed: the network raised.
        """
        if self._carried:
            batch = {name: array for name, array in batch.items() if name not in self._carried}
        return self._rows(self._net, batch)

    def packed(self, batch: Tensors) -> dict[str, Array]:
        """The network's outputs as the manifest says them, also where a variant runs that has others, or that
        takes no other sizes than `pre` makes.

        The network as it was packed is loaded when that is first asked for.

        Raises:
            InputError: the tensors do not fit; ModelFailed: the network raised.
        """
        if self.form.post is None and self._takes(batch):
            return self.net(batch)
        with self._lock:
            if self._packed is None:
                self._packed = OnnxRuntime().open(self.bundle.graph("net"))
        return self._rows(self._packed, batch)

    def _takes(self, batch: Tensors) -> bool:
        if not self.form.variant:
            return True
        sizes = {spec.name: spec.shape[1:] for spec in self._net.signature.inputs}
        return all(
            isinstance(size, str) or size == there
            for name, array in batch.items()
            for size, there in zip(sizes.get(name, ()), array.shape[1:], strict=False)
        )

    def _rows(self, session: Session, batch: Tensors) -> dict[str, Array]:
        info = self.bundle.manifest.graphs.net
        if info.batch:
            return session.run(batch)
        fixed = info.signature.inputs[0].shape[0]
        rows = len(next(iter(batch.values()))) if batch else 0
        if not isinstance(fixed, int) or rows in (0, fixed):
            return session.run(batch)
        return run_in_parts(session.run, batch, fixed)

    def post(self, raw: Tensors, options: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The network's raw outputs to the answer; the first axis is the batch.

        Args:
            raw: the raw outputs and the carried tensors.
            options: of the manifest's `options`, those that are not to have their default.

        Raises:
            InputError: an option that there is not, or a value out of its range.
        """
        return self._post.run(raw, option_tensors(self.bundle.manifest, options))

    def answer(self, item: Tensors, options: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """One decoded item's answer, without the batch axis; `options` as in `post`."""
        return self.answer_many([item], options)[0]

    def answer_many(
        self, items: Iterable[Tensors], options: Mapping[str, Any] | None = None
    ) -> list[dict[str, Array]]:
        """Decoded items' answers, in order; neighbours whose prepared tensors have one shape share a run."""
        if self._table is not None:
            return self._answer_table(list(items), options)
        prepared = [self.pre(item) for item in items]
        answers: list[dict[str, Array]] = []
        for _, same in groupby(prepared, key=_shapes):
            alike = list(same)
            for start in range(0, len(alike), MAX_ROWS):
                answers += self._answer_rows(alike[start : start + MAX_ROWS], options)
        return answers

    def readable(self, answer: Tensors) -> list[dict[str, Any]] | dict[str, Any]:
        """One item's answer for people and JSON.

        A classification (`scores` with `labels` or `indices`) becomes
        `[{"label": str, "score": float}]`, found objects
        `[{"label": str, "class": int, "score": float, "box": [x1, y1, x2, y2]}]`, anything else
        `{name: nested list}`.
        """
        return readable(answer)

    def _answer_table(
        self, items: Sequence[Tensors], options: Mapping[str, Any] | None
    ) -> list[dict[str, Array]]:
        """Rows have one shape, and are prepared many at a time."""
        answers: list[dict[str, Array]] = []
        for start in range(0, len(items), MAX_TABLE_ROWS):
            part = items[start : start + MAX_TABLE_ROWS]
            for item in part:
                self.bundle.manifest.graphs.pre.signature.check_inputs(item)
            batch = self.pre_rows({name: np.stack([item[name] for item in part]) for name in part[0]})
            answer = self.post(self.net(batch), options)
            answers += [{name: array[row, ...] for name, array in answer.items()} for row in range(len(part))]
        return answers

    def _answer_rows(
        self, rows: Sequence[Tensors], options: Mapping[str, Any] | None
    ) -> list[dict[str, Array]]:
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        around = {name: batch[name] for name in self._carried}
        answer = self.post(self.net(batch) | around, options)
        for name, array in answer.items():
            if array.ndim == 0 or len(array) != len(rows):
                raise ModelFailed(f"output {name!r} has shape {list(array.shape)} for {len(rows)} rows")
        return [{name: array[row, ...] for name, array in answer.items()} for row in range(len(rows))]


def decode_tensors(data: bytes, specs: Sequence[TensorSpec], *, limit: int) -> dict[str, Array]:
    """Tensors from .npy, .npz or JSON bytes; names and shapes are not judged here.

    Args:
        data: the encoded item.
        specs: what is expected; JSON numbers take its datatypes, a .npy its only name.
        limit: the most bytes a .npz may unpack to.

    Raises:
        InputError: none of the three, or damaged. TooLarge: over the limit.
    """
    if is_npy(data):
        if len(specs) != 1:
            names = ", ".join(spec.name for spec in specs)
            raise InputError(f"a .npy holds one array; expected {names}", hint="send a .npz")
        return {specs[0].name: read_npy(data)}
    if is_npz(data):
        return read_npz(data, limit=limit)
    check_json(data)
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f"expected .npy, .npz or JSON, got {len(data)} bytes that are none of them: {problem}"
        ) from problem
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, dict):
        wanted = ", ".join(f'"{spec.name}": {spec}' for spec in specs[:4]) + (", …" if len(specs) > 4 else "")
        raise InputError(f'expected {{"inputs": {{{wanted}}}}}', at="$")
    known = {spec.name: spec for spec in specs}
    return {
        name: array_of_json(value, known[name].dtype if name in known else None, at=f"$.inputs.{name}")
        for name, value in inputs.items()
    }


def _shapes(item: Tensors) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, array.shape) for name, array in item.items())


def graph_of(bundle: Bundle, kind: Literal["pre", "net", "post"], form: Form) -> bytes:
    """One of the three graphs, in this form.

    Raises:
        BundleError: damaged, or the form ends in values that the graph does not have.
    """
    if kind == "net" and form.variant:
        data = bundle.read_onnx(form.file)
        try:
            return ending_in(data, form.outputs) if form.outputs else data
        except ValueError as problem:
            raise BundleError(f"variant {form.variant!r}: {problem}", at=form.file) from problem
    if kind == "post" and form.post is not None:
        return bundle.read_onnx(form.post)
    if kind == "pre" and form.pre is not None:
        return bundle.read_onnx(form.pre)
    return bundle.graph(kind)
