"""Golden cases: the inputs, given or made up, and what was recorded of each at four taps.

The recording uses the steps' native code and the source framework, never the compiled graphs, so that a
replay compares two things that can differ.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from ..bundle.manifest import Column, Decode, GoldenCase
from ..errors import InputError, ModelportError, NotFound, UsageError
from ..runtimes.pipeline import decode_tensors
from ..steps.decode import decode_image
from ..steps.records import TABLE_SUFFIXES, TEXT_SUFFIXES, records_of
from ..tensors import Array, Signature, Tensors, TensorSpec, dtype_name
from .batch import made_up
from .scenes import SCENE_SIZES, scene
from .source import Reference

MAX_CASES = 16
MAX_TAPPED_BYTES = 64 << 20
"""Of all cases together: taps are kept in the bundle. A photo of 24 megapixels is 72 MB of them, and what a
detector makes of one at 640 x 640 is 14 MB."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ARRAYS = (".npy", ".npz", ".json")
SEED = 20
GENERATED_SIZES = ((64, 64), (97, 131), (180, 120), (224, 224), (32, 48), (150, 300))
"""Width and height of made-up pictures: square, wide and tall, smaller and larger than most networks take."""

Pre = Callable[[Tensors], dict[str, Array]]
Post = Callable[[Tensors], dict[str, Array]]


class Input(msgspec.Struct, frozen=True):
    """One encoded item, and what its file is called at the end."""

    data: bytes
    suffix: str
    origin: str = ""


class Recorded(msgspec.Struct, frozen=True):
    """One case: its input and the arrays at every tap; `raw` and `answer` have a batch axis of one row."""

    input: Input
    decoded: dict[str, Array]
    pre: dict[str, Array]
    raw: dict[str, Array]
    answer: dict[str, Array]


def given_inputs(
    golden: Any, decode: Decode, columns: Sequence[Column] = ()
) -> tuple[list[Input], tuple[str, ...]]:
    """The user's files, at most `MAX_CASES`, spread evenly; and notes on what was left out.

    Of tables and texts the rows and lines of the files count, each for itself.

    Args:
        golden: a path of a file or directory, or a sequence of such.
        decode: which files of a directory count.
        columns: a row's.

    Raises:
        NotFound: no such file, or a directory without one that counts. InputError: a file of rows is damaged.
    """
    given = [golden] if isinstance(golden, (str, Path)) else list(golden)
    paths = [path for place in given for path in _files(Path(place), decode)]
    if not paths:
        raise UsageError("no golden inputs were given", hint="leave `golden` out to have some made up")
    if decode.kind in ("table", "text"):
        return _given_records(paths, decode, columns)
    chosen = [
        paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), MAX_CASES)).round().astype(int)
    ]
    notes: tuple[str, ...] = ()
    if len(chosen) < len(paths):
        notes = (f"golden cases are recorded from {len(chosen)} of {len(paths)} files",)
    return [Input(path.read_bytes(), path.suffix.lower(), str(path)) for path in chosen], notes


def _given_records(
    paths: Sequence[Path], decode: Decode, columns: Sequence[Column]
) -> tuple[list[Input], tuple[str, ...]]:
    suffix = ".json" if decode.kind == "table" else ".txt"
    found: list[Input] = []
    for path in paths:
        try:
            records = records_of(path.read_bytes(), path.suffix.lower(), decode, columns)
        except InputError as problem:
            raise _placed(problem, Input(b"", suffix, str(path))) from problem
        found += [Input(record.data, suffix, f"{path}:{record.line}") for record in records]
    chosen = np.linspace(0, len(found) - 1, min(len(found), MAX_CASES)).round().astype(int)
    what = "rows" if decode.kind == "table" else "texts"
    notes = (f"golden cases are recorded from {len(chosen)} of {len(found)} {what}",)
    return [found[index] for index in chosen], notes if len(chosen) < len(found) else ()


def made_up_pictures(*, objects: bool = False) -> list[Input]:
    """Seeded pictures of several sizes: gradients, shapes, strokes, noise; encoded as PNG.

    With `objects`, scenes in which a detector may find something, and one of the others.
    """
    random = np.random.default_rng(SEED)
    drawers = (_gradient, _shapes, _strokes, _noise)
    sizes = GENERATED_SIZES[:1] if objects else GENERATED_SIZES
    pictures = [
        drawers[number % len(drawers)](width, height, random) for number, (width, height) in enumerate(sizes)
    ]
    if objects:
        pictures = [scene(width, height) for width, height in SCENE_SIZES] + pictures
    return [Input(_png(picture), ".png") for picture in pictures]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def made_up_tensors(signature: Signature, sizes: Mapping[str, int]) -> list[Input]:
    """Seeded items for a network that takes tensors, as .npz files.

    Args:
        signature: the network's.
        sizes: the size of every named dimension behind the first axis.
    """
    inputs: list[Input] = []
    for number in range(4):
        tensors = made_up(signature, 1, sizes, seed=SEED + number)
        inputs.append(Input(npz({name: array[0, ...] for name, array in tensors.items()}), ".npz"))
    return inputs


def decoder(decode: Decode, specs: Sequence[TensorSpec]) -> Callable[[bytes], dict[str, Array]]:
    """How one encoded item becomes tensors, in native code."""

    def tensors(data: bytes) -> dict[str, Array]:
        found = decode_tensors(data, specs, limit=decode.max_bytes)
        Signature(tuple(specs), ()).check_inputs(found)
        return found

    if decode.kind == "tensors":
        return tensors
    return lambda data: {"image": decode_image(data, decode)}


def record(
    inputs: Iterable[Input],
    *,
    decode: Callable[[bytes], dict[str, Array]],
    pre: Pre,
    net: Reference,
    post: Post,
    raw: Sequence[TensorSpec],
    carried: Sequence[str] = (),
) -> Iterator[Recorded]:
    """One recording for each input, as long as the arrays fit into `MAX_TAPPED_BYTES`; at least one.

    Args:
        decode, pre, post: native code.
        net: the source framework.
        raw: what the network's outputs are to be, of a batch.
        carried: of what `pre` makes, that which goes around the network to `post`.

    Raises:
        InputError: an input cannot be decoded; `at` is its file.
        UsageError: the source's outputs are not what its ONNX form says.
    """
    size = 0
    for item in inputs:
        try:
            decoded = decode(item.data)
        except InputError as problem:
            raise _placed(problem, item) from problem
        before = size
        size += _bytes(decoded)
        if before and size > MAX_TAPPED_BYTES:
            return
        prepared = pre(decoded)
        rows = {name: array[None] for name, array in prepared.items()}
        outputs = net({name: array for name, array in rows.items() if name not in carried})
        _check_outputs(outputs, raw)
        batch = {spec.name: outputs[spec.name] for spec in raw}
        size += _bytes(prepared) + _bytes(batch)
        if before and size > MAX_TAPPED_BYTES:
            return
        answer = post(batch | {name: rows[name] for name in carried})
        yield Recorded(
            item,
            decoded,
            prepared,
            batch,
            answer,
        )


def _bytes(tensors: Tensors) -> int:
    return sum(array.nbytes for array in tensors.values())


def _check_outputs(outputs: Tensors, raw: Sequence[TensorSpec]) -> None:
    for spec in raw:
        got = outputs.get(spec.name)
        if got is None:
            raise UsageError(f"the source gives no output {spec.name!r}; it gives {', '.join(outputs)}")
        if dtype_name(got) != spec.dtype or got.ndim != len(spec.shape) or len(got) != 1:
            shown = f"{dtype_name(got)}{list(got.shape)}"
            raise UsageError(
                f"the source's output {spec.name!r} is {shown} for one row, its ONNX form {spec}"
            )


def one_answer(cases: Sequence[Recorded], *, generated: bool = False) -> str | None:
    """A sentence of doubt where nearly all pictures got one answer, which a wrong recipe does.

    A replay cannot see it: it holds the bundle to its recipe, and not to what the network was trained with.
    """
    if all("boxes" in case.answer and "count" in case.answer for case in cases):
        return _nothing_found(cases, generated=generated)
    best = [str(case.answer["labels"][0, 0]) for case in cases if "labels" in case.answer]
    best = best or [str(case.answer["indices"][0, 0]) for case in cases if "indices" in case.answer]
    if len(best) < 5:
        return None
    answer, count = Counter(best).most_common(1)[0]
    if count < 0.8 * len(best):
        return None
    return (
        f"{count} of {len(best)} golden pictures were answered {answer!r}: if they are not all of that, the "
        "recipe is not the one that the network was trained with"
    )


def _nothing_found(cases: Sequence[Recorded], *, generated: bool) -> str | None:
    """The same doubt about a detector: it found nothing at all."""
    if any(case.answer["count"].any() for case in cases):
        return None
    if generated:
        return (
            f"nothing was found in the {len(cases)} made-up pictures, which says little: --golden PHOTOS "
            "with something in them would show whether the recipe is the one of the training"
        )
    return (
        f"nothing was found in {len(cases)} golden pictures: if there is something in them, the recipe is "
        "not the one that the network was trained with"
    )


def files_of(cases: Sequence[Recorded]) -> tuple[tuple[GoldenCase, ...], dict[str, bytes]]:
    """The cases as the manifest names them, and their files."""
    named: list[GoldenCase] = []
    files: dict[str, bytes] = {}
    for number, case in enumerate(cases):
        place = f"golden/{number:04d}"
        name = Path(case.input.origin).stem or f"generated-{number}"
        if any(name == other.name for other in named):
            name = f"{name}-{number}"  # a/cat.png and b/cat.png
        entry = GoldenCase(name, f"{place}{case.input.suffix}", f"{place}.taps.npz")
        files[entry.input] = case.input.data
        taps = {
            f"{tap}.{tensor}": array
            for tap in ("decoded", "pre", "raw", "answer")
            for tensor, array in getattr(case, tap).items()
        }
        files[entry.taps] = npz(taps)
        named.append(entry)
    return tuple(named), files


def npz(arrays: Mapping[str, Array]) -> bytes:
    """A compressed .npz without pickles; text as `<U`. The same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, whatever the clock says
            entry.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            plain = array.astype(str) if array.dtype.kind in "OS" else array
            np.lib.format.write_array(content, np.asarray(plain, order="C"), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def _files(place: Path, decode: Decode) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise NotFound(f"no such file or directory: {place}")
    suffixes = {"image": PICTURES, "table": TABLE_SUFFIXES, "text": TEXT_SUFFIXES}.get(decode.kind, ARRAYS)
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise NotFound(f"no file in {place} ends in one of {', '.join(suffixes)}")
    return found


def _placed(problem: ModelportError, item: Input) -> ModelportError:
    where = item.origin or "a made-up input"
    return type(problem)(
        problem.message, at=f"{where} {problem.at}" if problem.at else where, hint=problem.hint
    )


def _gradient(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Three slopes in different directions, one for each channel."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    turns = random.uniform(0, 2 * np.pi, 3)
    planes = [0.5 + 0.35 * ((2 * x - 1) * np.cos(t) + (2 * y - 1) * np.sin(t)) for t in turns]
    return Image.fromarray((np.stack(planes, -1).clip(0, 1) * 255).astype(np.uint8))


def _shapes(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Ellipses and rectangles of random colours on a light ground."""
    picture = Image.new("RGB", (width, height), (228, 222, 210))
    draw = ImageDraw.Draw(picture)
    for number in range(7):
        x0, x1 = sorted(int(v) for v in random.integers(0, width, 2))
        y0, y1 = sorted(int(v) for v in random.integers(0, height, 2))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        (draw.ellipse if number % 2 else draw.rectangle)((x0, y0, x1, y1), fill=colour)
    return picture


def _strokes(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Dark ink on white paper, as a digit is drawn."""
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    side = min(width, height)
    points = [
        (int(x * side) + (width - side) // 2, int(y * side)) for x, y in random.uniform(0.2, 0.8, (6, 2))
    ]
    ImageDraw.Draw(picture).line(points, fill=(20, 24, 40), width=max(2, side // 12), joint="curve")
    return picture


def _noise(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Coarse noise with fine noise on it."""
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    fine = random.integers(-12, 13, (height, width, 3))
    return Image.fromarray((smooth + fine).clip(0, 255).astype(np.uint8))
