"""Texts from packing to the server, compiled steps and tokenizer alike."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelport
from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.client import Client, Text
from modelport.errors import BundleError, InputError, TooLarge, UsageError
from modelport.runtimes.pipeline import Pipeline

from ..colours import served
from . import networks

tokenizers = pytest.importorskip("tokenizers")


def write_tokenizer(path: Path) -> None:
    """A word-level tokenizer with a padding token and begin and end."""
    words = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3, "a": 4, "b": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    made.save(str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mood`, `padded`, `open` and `echo` in `folder`/repo."""
    where = tmp_path_factory.mktemp("text")
    (where / "words.txt").write_text("\n".join(networks.WORDS) + "\n", encoding="utf-8")
    write_tokenizer(where / "tokenizer.json")
    (where / "mood.toml").write_text(networks.MOOD)
    (where / "padded.toml").write_text(networks.TOKENS.replace("PADDING", "max_length"))
    (where / "open.toml").write_text(networks.TOKENS.replace("PADDING", "none"))
    (where / "echo.toml").write_text(
        'task = "text-classification"\nlabels = ["yes", "no"]\npost = ["softmax", "top_k", "labels"]\n'
        '[decode]\nkind = "text"\n'
    )
    (where / "golden.txt").write_text(
        "A good film.\nBad, bad film!\n\nSTRASSE straße STRAßE\n", encoding="utf-8"
    )
    made = {
        "mood": networks.mood(where / "mood.onnx"),
        "padded": networks.counter(where / "padded.onnx", 8),
        "open": networks.counter(where / "open.onnx"),
        "echo": networks.echo(where / "echo.onnx"),
    }
    for name, network in made.items():
        golden = where / "golden.txt" if name == "mood" else None
        modelport.pack(network, out=where / "repo", recipe=where / f"{name}.toml", golden=golden)
    return where


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with served(folder / "repo", "--versions", "all") as (address, _):
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as made:
        made.wait_until_ready()
        yield made


def best(pipeline: Pipeline, text: str) -> str:
    return str(pipeline.answer(pipeline.decode(text.encode()))["labels"][0])


def test_a_vocabulary_is_packed_and_proven_on_lines_of_text(folder: Path) -> None:
    bundle = Bundle.open(folder / "repo" / "mood")
    assert modelport.verify(bundle).ok
    golden = bundle.manifest.golden
    assert golden is not None and [bundle.read(case.input).decode() for case in golden.cases] == [
        "A good film.", "Bad, bad film!", "STRASSE straße STRAßE",
    ]  # fmt: skip
    assert bundle.manifest.steps.pre[2]["vocabulary"]["words"] == list(networks.WORDS)
    with Pipeline.open(bundle) as pipeline:
        assert best(pipeline, "a GOOD film, good!") == "liked"
        assert best(pipeline, "\ufeffDull. Bad.") == "disliked"
        with pytest.raises(InputError, match="not UTF-8"):
            pipeline.decode(b"\xff\xfe")
        with pytest.raises(InputError, match="NUL"):
            pipeline.decode(b"a\0b")
        with pytest.raises(TooLarge, match="at most 2000"):
            pipeline.decode(b"a" * 2001)


def test_a_tokenizer_travels_in_the_bundle(folder: Path) -> None:
    for name, lengths in (("padded", [8, 8, 8]), ("open", [3, 5, 8])):
        bundle = Bundle.open(folder / "repo" / name)
        assert modelport.verify(bundle).ok
        assert bundle.manifest.decode.tokenizer == "tokenizer.json"
        with Pipeline.open(bundle) as pipeline:
            items = [pipeline.decode(text.encode()) for text in ("a", "a b zz", "a " * 50)]
            assert [len(item["input_ids"]) for item in items] == lengths
            assert items[1]["input_ids"][:5].tolist() == [2, 4, 5, 1, 3]
            assert items[1]["attention_mask"].sum() == 5
            labels = [answer["labels"][0] for answer in pipeline.answer_many(items)]
            assert labels[1:] == ["long", "long"]


def test_a_text_may_go_to_the_network_as_it_is(folder: Path) -> None:
    bundle = Bundle.open(folder / "repo" / "echo")
    assert bundle.manifest.graphs.net.signature.inputs[0].dtype == "string"
    with Pipeline.open(bundle) as pipeline:
        assert [best(pipeline, text) for text in ("yes", "Yes", "")] == ["yes", "no", "no"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (("words.txt", "none.txt"), UsageError, "cannot be read"),
        (("words.txt", "../words.txt"), UsageError, "not beside the recipe"),
        (("size = 6 } },\n]", "size = 7 } },\n]"), UsageError, "the network takes ids"),
        (('kind = "text"', 'kind = "text"\ntokenizer = "tokenizer.json"'), UsageError, "no further steps"),
        (('kind = "text"', 'kind = "table"'), UsageError, "needs columns"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(
    folder: Path, change: tuple[str, str], error: type[Exception], said: str
) -> None:
    recipe = folder / "changed.toml"
    recipe.write_text(networks.MOOD.replace(*change))
    with pytest.raises(error, match=said):
        modelport.pack(folder / "mood.onnx", out=folder / "repo", name="changed", recipe=recipe)


def test_a_tokenizer_that_is_none_is_refused(folder: Path) -> None:
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / "tokenizer.json").write_text("{}")
    (folder / "broken" / "r.toml").write_text(networks.TOKENS.replace("PADDING", "none"))
    with pytest.raises(BundleError, match="no tokenizer"):
        modelport.pack(
            folder / "open.onnx", out=folder / "repo", name="c", recipe=folder / "broken" / "r.toml"
        )
    (folder / "unpadded.toml").write_text(
        networks.TOKENS.replace("PADDING", "max_length").replace("<pad>", "[P]")
    )
    with pytest.raises(BundleError, match=r"no token '\[P\]'"):
        modelport.pack(folder / "padded.onnx", out=folder / "repo", name="d", recipe=folder / "unpadded.toml")


def test_predict_and_evaluate_on_lines(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.txt").write_text("good film\n\nbad film\n")
    assert run(["predict", str(folder / "repo" / "mood"), str(tmp_path / "lines.txt"), "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["row"], first["answer"][0]["label"]) == (1, "liked")
    assert (second["row"], second["answer"][0]["label"]) == (3, "disliked")
    assert (
        run(["predict", str(folder / "repo" / "mood"), "--text", "bad", "--save", str(tmp_path / "a.csv")])
        == 0
    )
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "text,answer,score"
    capsys.readouterr()
    data = tmp_path / "data.csv"
    data.write_text('text,label\n"good, good",liked\nbad film,disliked\ngood bad bad,liked\ndull,disliked\n')
    found = modelport.evaluate(folder / "repo" / "mood", data, replicates=0)
    assert found["accuracy"] == 0.75
    for label, text in (("liked", "good\nvery good\n"), ("disliked", "bad\n")):
        (tmp_path / "folders" / label).mkdir(parents=True)
        (tmp_path / "folders" / label / "1.txt").write_text(text)
    found = modelport.evaluate(folder / "repo" / "mood", tmp_path / "folders", replicates=0)
    assert (found["accuracy"], found.items) == (1.0, 3)


def ask(url: str, path: str, body: Any, kind: str = "application/json") -> Any:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as problem:
        return f"{problem.code} {problem.read().decode()}"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("A good film!", "text/plain; charset=utf-8"),
        ("A good film!", "application/octet-stream"),
        ({"text": "A good film!"}, "application/json"),
        ("text=A+good+film%21", "application/x-www-form-urlencoded"),
        ("A good film!", "application/x-www-form-urlencoded"),
    ],
)
def test_one_text_has_one_answer(url: str, body: Any, kind: str) -> None:
    assert ask(url, "/predict/mood", body, kind)["answer"][0]["label"] == "liked"


def test_texts_in_every_dialect(url: str) -> None:
    two = ["good", "bad"]
    both = ["liked", "disliked"]
    for body in (two, [{"text": text} for text in two]):
        answers = ask(url, "/predict/mood", body)["answers"]
        assert [answer[0]["label"] for answer in answers] == both
    assert [answer[0]["label"] for answer in ask(url, "/hf/mood", {"inputs": two})] == both
    (one,) = ask(url, "/hf/mood", {"inputs": "bad", "parameters": {"top_k": 1}})
    assert [each["label"] for each in one] == ["disliked"]
    for body in ({"instances": two}, {"instances": [{"text": text} for text in two]}):
        found = ask(url, "/v1/models/mood:predict", body)["predictions"]
        assert [answer["labels"][0] for answer in found] == both
    assert ask(url, "/v1/models/mood:predict", {"inputs": two})["outputs"]["labels"][1][0] == "disliked"
    for body in (
        {"dataframe_split": {"columns": ["review"], "data": [["good"], ["bad"]]}},
        {"inputs": two},
        {"instances": two},
    ):
        found = ask(url, "/invocations/mood", body)["predictions"]
        words = [row[0]["label"] if isinstance(row, list) else row["labels"][0] for row in found]
        assert words == both
    for body in (two, [{"text": text} for text in two]):
        answers = ask(url, "/api/predict/mood", body)["answers"]
        assert [answer[0]["label"] for answer in answers] == both
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": two}
    outputs = {
        each["name"]: each for each in ask(url, "/v2/models/mood/infer", {"inputs": [tensor]})["outputs"]
    }
    assert outputs["labels"]["data"] == ["liked", "disliked", "disliked", "liked"]


FORM = "application/x-www-form-urlencoded"
SDK = "application/octet-stream"  # what eas-prediction says of every body
PART = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"text": "bad"}, "application/json"),
        ({"text": "bad"}, FORM),  # curl's -d
        ({"text": "bad"}, SDK),
        ("text=bad", FORM),
        (PART.format("text", "bad"), "multipart/form-data; boundary=b"),
        ("bad", "text/plain"),
        ("bad", SDK),
        ("\nbad", SDK),  # as some protobufs begin
        ("[good bad bad] a dull film", SDK),  # no JSON, though it begins so
        ("{good} bad, bad", "text/plain"),
    ],
)
def test_pai_eas_takes_what_predict_takes(url: str, body: Any, kind: str) -> None:
    reply = ask(url, "/api/predict/mood", body, kind)
    assert set(reply) == {"model", "version", "answer"}
    assert reply["answer"][0]["label"] == "disliked"


def test_pai_eas_refuses_json_that_holds_no_text(url: str) -> None:
    for kind in ("application/json", FORM, SDK):
        assert "expected a text" in ask(url, "/api/predict/mood", {"words": "good"}, kind)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("[good bad bad] a dull film", "text/plain"),
        ("{good} bad, bad", "application/octet-stream"),
        ("{good} bad, bad", FORM),
        ('{"data": "bad"}', "text/plain"),
        ('["bad"]', ""),
        ("data=bad", FORM),
        ("data=[good+bad+bad]+a+dull+film", FORM),
        (PART.format("data", "bad"), "multipart/form-data; boundary=b"),
        (PART.format("body", "[good bad bad] a dull film"), "multipart/form-data; boundary=b"),
    ],
)
def test_torchserve_takes_a_text_however_it_begins(url: str, body: str, kind: str) -> None:
    assert next(iter(ask(url, "/predictions/mood", body, kind))) == "disliked"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/predict/mood", {"words": "good"}, 400, "expected a text"),
        ("/predict/mood", ["good", 3], 400, "$[1]"),
        ("/predict/mood", {"text": "a" * 2001}, 413, "at most 2000"),
        ("/predict/mood", ["a"] * 1025, 413, "at most 1024"),
        ("/predict/mood", [], 400, "no rows"),
        ("/hf/mood", {"inputs": None}, 400, "expected a text"),
        ("/predictions/mood", "[bad", 400, "not JSON"),
        (
            "/v2/models/mood/infer",
            {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}]},
            400,
            "`text`",
        ),
    ],
)
def test_what_is_no_text_is_refused(url: str, path: str, body: Any, status: int, said: str) -> None:
    reply = ask(url, path, body)
    assert reply.startswith(str(status)) and said in reply


def test_the_client_sends_texts(client: Client, tmp_path: Path) -> None:
    assert client.predict("mood", "a bad film").top.label == "disliked"
    assert client.predict("mood", Text("good")).top.label == "liked"
    assert client.predict("mood", {"text": "good"}).top.label == "liked"
    (tmp_path / "a text.txt").write_text("bad")
    assert client.predict("mood", str(tmp_path / "a text.txt")).top.label == "disliked"
    result = client.infer("padded", {"text": np.array([["a b a b"], ["a"]], object)})
    assert result["labels"][0][0] == b"long"
    with pytest.raises(modelport.errors.NotFound, match="Text"):
        client.predict("mood", "good")


def test_the_hub_client_classifies_a_text(url: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    found = hub.InferenceClient(model=f"{url}/hf/mood").text_classification("a bad film", top_k=1)
    assert found[0].label == "disliked"


def test_here_and_there_evaluate_alike(url: str, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [("good", "liked"), ("bad", "disliked"), ("dull film", "liked"), ("a" * 2500, "liked")]
    data.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    here = modelport.evaluate(folder / "repo" / "mood", data, replicates=0)
    there = modelport.evaluate(folder / "repo" / "mood", data, url=url, replicates=0)
    assert here.metrics == there.metrics
    assert here["accuracy"] == pytest.approx(2 / 3)
    assert [len(each.failed) for each in (here, there)] == [1, 1]
    (tmp_path / "tokens.csv").write_text("text,label\na b a b,long\n")
    assert modelport.evaluate("padded", tmp_path / "tokens.csv", url=url, replicates=0)["accuracy"] == 1.0
