"""The clients and the real server, each in its own process."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.client import AsyncClient, Client, Output, Prediction
from modelport.errors import (
    InputError,
    ModelportError,
    NotFound,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from modelport.tensors import TensorSpec

from ..colours import LABELS, picture


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as made:
        yield made
        assert made.predict("colours", picture("green")).top.label == "green"  # it still answers


@pytest.fixture
async def aclient(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url) as made:
        yield made


def forms(colour: str, folder: Path) -> list[Any]:
    data = picture(colour)
    path = folder / f"{colour}.png"
    path.write_bytes(data)
    image = Image.open(io.BytesIO(data))
    return [data, bytearray(data), path, str(path), io.BytesIO(data), image, np.asarray(image)]


@pytest.mark.parametrize("colour", LABELS)
def test_a_picture_in_every_form(client: Client, colour: str, tmp_path: Path) -> None:
    answers = [client.predict("colours", item) for item in forms(colour, tmp_path)]
    for answer in answers:
        assert (answer.model, answer.version) == ("colours", "10")
        assert (
            answer.top.label == colour
            and answer.labels[0] == colour
            and sorted(answer.labels) == sorted(LABELS)
        )
        assert answer.scores == answers[0].scores and sum(answer.scores) == pytest.approx(1)
        assert answer.timing.round_trip >= answer.timing.total >= 0
    assert answers[0].timing.decode > 0


async def test_a_picture_in_every_form_by_asyncio(aclient: AsyncClient, tmp_path: Path) -> None:
    for colour in LABELS:
        for item in forms(colour, tmp_path):
            answer = await aclient.predict("colours", item, version=2)
            assert answer.top.label == colour and answer.version == "2"


def test_the_servers_errors_come_back_as_themselves(client: Client) -> None:
    with pytest.raises(NotFound, match="'nope' is not found"):
        client.infer("nope", {"x": [1.0]})
    with pytest.raises(NotFound):
        client.predict("colours", picture("red"), version=77)
    with pytest.raises(UnsupportedMedia, match="expected a picture"):
        client.predict("colours", b"not a picture at all")
    with pytest.raises(InputError, match="damaged") as damaged:
        client.predict("colours", picture("red", (200, 200))[:150])
    assert type(damaged.value) is InputError
    with pytest.raises(InputError, match=r"expected float32\[batch, 3, 8, 8\], got float64\[1\]"):
        client.infer("colours.net", {"x": [1.0]})
    with pytest.raises(InputError, match="unknown output"):
        client.infer("colours.net", {"x": np.zeros((1, 3, 8, 8), np.float32)}, outputs=["nope"])
    with pytest.raises(TooLarge):
        client.infer("colours.net", {"x": np.zeros(65 << 20, np.uint8)})


def test_infer_of_the_network_and_of_the_whole_bundle(client: Client) -> None:
    x = np.random.default_rng(1).random((4, 3, 8, 8)).astype(np.float32)
    got = client.infer("colours.net", {"x": x}, id="an id", version=2)
    assert (got.model, got.version, got.id) == ("colours.net", "2", "an id")
    assert got["logits"].shape == (4, 3)
    assert np.allclose(got["logits"], x.mean((2, 3)) * 20, atol=1e-4)
    whole = client.infer("colours", {"image": [picture(colour) for colour in LABELS]})
    assert [row[0].decode() for row in whole["labels"]] == LABELS
    some = client.infer("colours", {"image": picture("red")}, outputs=["scores"])
    assert list(some) == ["scores"] and some["scores"].shape == (1, 3)


def test_classification(client: Client) -> None:
    x = np.zeros((2, 3, 8, 8), np.float32)
    x[0, 1], x[1, 2] = 1, 1
    got = client.infer("colours.net", {"x": x}, outputs=[Output("logits", classification=2)])
    rows = got.classes("logits")
    assert [(row[0].label, row[0].index) for row in rows] == [("green", 1), ("blue", 2)]
    assert rows[0][0].score == pytest.approx(20, abs=1e-3) and len(rows[1]) == 2


DTYPES = {
    "bool": np.array([[True, False, True]]),
    "fp16": np.array([[1.5, -2.0, np.inf]], np.float16),
    "fp32": np.array([[np.nan, -0.0, 3e38]], np.float32),
    "fp64": np.array([[1e300, 5e-324, -1.0]]),
    "bytes": np.array([["a", "", "é" * 300]], dtype=object),
} | {
    f"{'u' if name.startswith('u') else ''}int{name.removeprefix('u').removeprefix('int')}": np.array(
        [[np.iinfo(name).min, 0, np.iinfo(name).max]], name
    )
    for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
}


def test_every_datatype_there_and_back(client: Client) -> None:
    got = client.infer("every.net", {f"in_{name}": array for name, array in DTYPES.items()})
    assert len(got) == len(DTYPES)
    for name, array in DTYPES.items():
        back = got[f"out_{name}"]
        if name == "bytes":
            assert [item.decode() for item in back.flat] == list(array.flat)
        else:
            assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
            assert back.flags.writeable and back.flags.aligned


def test_what_is_known_of_models(client: Client) -> None:
    assert (
        client.live() and client.ready() and client.ready("colours") and client.ready("colours", version="2")
    )
    assert not client.ready("nope")
    client.wait_until_ready("colours", timeout=5)
    about = client.metadata("colours.net")
    assert about.inputs == (TensorSpec("x", "float32", (-1, 3, 8, 8)),)
    assert about.outputs == (TensorSpec("logits", "float32", (-1, 3)),)
    assert set(about.versions) == {"2", "10"} and client.server().name == "modelport"
    states = {(state.name, state.version): state.ready for state in client.models()}
    assert states["colours", "2"] and states["colours", "10"] and states["every.net", "1"]


def test_statistics_count(client: Client) -> None:
    def rows() -> int:
        (found,) = client.statistics("colours", version="2")
        assert (found.name, found.version) == ("colours", "2")
        return found.inference_count

    client.predict("colours", picture("red"), version="2")
    before = rows()
    client.predict("colours", picture("red"), version="2")
    assert rows() == before + 1
    (found,) = client.statistics("colours", version="2")
    assert found.stages["success"].count >= 2 and found.stages["success"].seconds > 0
    assert {entry.name for entry in client.statistics()} >= {"colours", "every"}


def test_the_deadline_reaches_the_server(client: Client) -> None:
    x = np.ones((1, 1), np.float32)
    assert client.infer("slow.net", {"x": x}, timeout=60)["y"].tolist() == [[1.0]]
    # By now the server knows that it takes longer, and refuses at once; or the time is over first.
    with pytest.raises(Unavailable, match=r"deadline|no answer within"):
        client.infer("slow.net", {"x": x}, timeout=0.05)


ITEMS: list[Any] = [picture("red"), b"nonsense", "/nowhere.png", picture("blue"), 5, picture("green")]


def summary(answers: list[Prediction | ModelportError]) -> list[Any]:
    return [answer.top.label if isinstance(answer, Prediction) else type(answer) for answer in answers]


EXPECTED = ["red", UnsupportedMedia, NotFound, "blue", InputError, "green"]


def test_many_items_come_back_in_order_with_their_errors_in_place(client: Client) -> None:
    for concurrency in (1, 3, 20):
        assert summary(list(client.predict_many("colours", ITEMS, concurrency=concurrency))) == EXPECTED
    assert list(client.predict_many("colours", [])) == []


async def test_many_items_by_asyncio(aclient: AsyncClient) -> None:
    async def later() -> AsyncIterator[Any]:
        for item in ITEMS:
            await asyncio.sleep(0)
            yield item

    for items in (ITEMS, iter(ITEMS), later()):
        answers = [answer async for answer in aclient.predict_many("colours", items, concurrency=3)]
        assert summary(answers) == EXPECTED


def test_many_items_until_the_first_error(client: Client) -> None:
    answers = client.predict_many("colours", ITEMS, errors="raise")
    assert next(answers).top.label == "red"
    with pytest.raises(UnsupportedMedia):
        next(answers)


def test_many_items_are_taken_only_a_little_ahead(client: Client) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield picture("red")

    answers = client.predict_many("colours", endless(), concurrency=2)
    for _ in range(5):
        answer = next(answers)
        assert isinstance(answer, Prediction) and answer.top.label == "red"
    assert len(taken) <= 5 + 2 * 2
    answers.close()  # type: ignore[attr-defined]


async def test_leaving_early_cancels_what_is_on_its_way(aclient: AsyncClient) -> None:
    answers = aclient.predict_many("colours", [picture("red")] * 50, concurrency=4)
    async for answer in answers:
        assert isinstance(answer, Prediction)
        break
    await answers.aclose()  # type: ignore[attr-defined]
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def own(number: int) -> tuple[np.ndarray[Any, Any], list[float]]:
    """An input that no other call sends, and its answer."""
    means = [float(number % 7), float(number % 11), float(number % 13)]
    x = np.broadcast_to(np.array(means, np.float32)[None, :, None, None], (1, 3, 8, 8))
    return x, [mean * 20 for mean in means]


def test_32_threads_share_a_client_and_each_gets_its_own_answers(client: Client) -> None:
    problems: list[str] = []

    def work(thread: int) -> None:
        for turn in range(25):
            x, expected = own(thread * 25 + turn)
            got = client.infer("colours.net", {"x": x}, id=f"{thread}-{turn}")
            if got.id != f"{thread}-{turn}" or not np.allclose(got["logits"], [expected], atol=1e-3):
                problems.append(f"{thread}-{turn}: {got['logits']} for {expected}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not problems and not any(thread.is_alive() for thread in threads)


async def test_200_tasks_share_a_client_and_each_gets_its_own_answers(aclient: AsyncClient) -> None:
    async def one(number: int) -> bool:
        x, expected = own(number)
        got = await aclient.infer("colours.net", {"x": x})
        return np.allclose(got["logits"], [expected], atol=1e-3)

    assert all(await asyncio.gather(*(one(number) for number in range(200))))


def test_an_array_as_large_as_the_server_takes(client: Client) -> None:
    x = np.random.default_rng(2).random((16, 3, 512, 512)).astype(np.float32)[:, :, :512, :500]
    with pytest.raises(InputError, match="expected float32"):
        client.infer("colours.net", {"x": x})  # 46 MB arrive whole, and are judged
    many = np.random.default_rng(2).random((20_000, 3, 8, 8)).astype(np.float32)
    got = client.infer("colours.net", {"x": many})["logits"]
    assert got.shape == (20_000, 3) and np.allclose(got, many.mean((2, 3)) * 20, atol=1e-3)


def test_uvloop_runs_the_asyncio_client_too(url: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> list[str]:
        async with AsyncClient(url, connections=4) as client:
            answers = await asyncio.gather(*(client.predict("colours", picture(c)) for c in LABELS * 5))
            big = np.random.default_rng(3).random((2000, 3, 8, 8)).astype(np.float32)
            got = await client.infer("colours.net", {"x": big})
            assert np.allclose(got["logits"], big.mean((2, 3)) * 20, atol=1e-3)
            return [answer.top.label for answer in answers]

    assert uvloop.run(run()) == LABELS * 5
