"""What the parts of a manifest must be to each other."""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.bundle.manifest import Decode, File, Golden, GoldenCase, Manifest, Variant
from modelport.bundle.rules import check_manifest, check_names, name_fault, parents, references
from modelport.errors import BundleError
from modelport.tensors import Signature, TensorSpec

FILE = File("0" * 64, 1)


@pytest.fixture
def manifest(tiny_manifest: Manifest, tiny_files: dict[str, bytes]) -> Manifest:
    return msgspec.structs.replace(tiny_manifest, files=dict.fromkeys(tiny_files, FILE))


def refusal(manifest: Manifest) -> str:
    with pytest.raises(BundleError) as caught:
        check_manifest(manifest)
    return str(caught.value)


def with_graph(manifest: Manifest, kind: str, **changes: Any) -> Manifest:
    graph = msgspec.structs.replace(getattr(manifest.graphs, kind), **changes)
    return msgspec.structs.replace(manifest, graphs=msgspec.structs.replace(manifest.graphs, **{kind: graph}))


def test_a_good_manifest(manifest: Manifest) -> None:
    check_manifest(manifest)
    check_manifest(msgspec.structs.replace(manifest, golden=None, labels=None, variants=()))


@pytest.mark.parametrize(
    "name", ["a", "a.b", "a/b/c.onnx", ".hidden", "a b", "猫/标签.txt", "con1", "x" * 255]
)
def test_names_that_are_fine(name: str) -> None:
    assert name_fault(name) is None
    check_names([name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x", "has the segment '..'"),
        ("a/../../x", "has the segment '..'"),
        ("a/..", "has the segment '..'"),
        ("./a", "has the segment '.'"),
        ("/etc/passwd", "is absolute"),
        ("//host/share", "is absolute"),
        ("a//b", "has an empty segment"),
        ("a/", "has an empty segment"),
        ("", "has an empty segment"),
        ("a\\b", "has a backslash"),
        ("..\\x", "has a backslash"),
        ("C:/x", "has ':'"),
        ("C:x", "has ':'"),
        ("file:stream", "has ':'"),
        ("a\0b", "has a control character"),
        ("a\nb", "has a control character"),
        ("a\x7f", "has a control character"),
        ("a\ud800", "has a control character"),
        ("what?", "has '?'"),
        ("a*", "has '*'"),
        ("a.", "ends in a dot or a space"),
        ("a /b", "ends in a dot or a space"),
        ("nul", "a device on Windows"),
        ("a/CON.onnx", "a device on Windows"),
        ("lpt1", "a device on Windows"),
        ("鸟" * 86, "more than 255 bytes"),
        (unicodedata.normalize("NFD", "é"), "normal form C"),
    ],
)
def test_names_that_are_refused(name: str, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_names(["ok", name])
    assert words in str(caught.value)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["net.onnx", "NET.onnx"], "'net.onnx' and 'NET.onnx' are one file where case is ignored"),
        (["straße", "STRASSE"], "are one file"),
        (["é.txt", "É.txt"], "are one file"),
        (["a/x", "A/y"], "'a' and 'A' are one folder"),
        (["a", "a/b"], "'a' is both a file and a folder"),
        (["A/b", "a"], "'A' is both a file and a folder"),
        (["modelport.json"], "cannot name itself ('modelport.json')"),
        (["ModelPort.JSON"], "cannot name itself ('ModelPort.JSON')"),
        (["modelport.json/x"], "'modelport.json' is both a file and a folder"),
    ],
)
def test_names_that_collide(names: list[str], words: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_names(names)
    assert words in str(caught.value)
    assert caught.value.at == "$.files"


@given(st.text(max_size=40))
def test_a_name_that_is_fine_stays_below_its_folder(name: str) -> None:
    if name_fault(name) is None:
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        assert not set(name) & set('\\:*?"<>|\0')


def test_parents() -> None:
    assert list(parents("a/b/c")) == ["a", "a/b"]
    assert list(parents("a")) == []


def test_every_reference_must_be_named(manifest: Manifest) -> None:
    used = dict(references(manifest))
    assert used == {
        "$.graphs.pre.file": "pre.onnx",
        "$.graphs.net.file": "net.onnx",
        "$.graphs.post.file": "post.onnx",
        "$.labels": "labels.txt",
        "$.variants[0].file": "net.int8.onnx",
        "$.golden.cases[0].input": "golden/000.bin",
        "$.golden.cases[0].taps": "golden/000.npz",
    }
    for at, name in used.items():
        rest = {key: file for key, file in manifest.files.items() if key != name}
        message = refusal(msgspec.structs.replace(manifest, files=rest))
        assert message == f"{name!r} is used but not among the bundle's files at `{at}`"


def test_two_variants_of_one_name(manifest: Manifest) -> None:
    variants = (Variant("int8", "net.int8.onnx"), Variant("int8", "net.onnx"))
    message = refusal(msgspec.structs.replace(manifest, variants=variants))
    assert message == "the name 'int8' stands twice at `$.variants`"


def test_only_pictures_that_answers_do_not_lie_in_are_reduced(manifest: Manifest) -> None:
    variants = (Variant("half", "net.onnx", reduced=(64, 48)),)
    good = msgspec.structs.replace(manifest, variants=variants)
    check_manifest(good)
    message = refusal(msgspec.structs.replace(good, decode=Decode("tensors")))
    assert message.endswith("sides, and the bundle takes no pictures at `$.variants[0].reduced`")
    place = TensorSpec("placement", "float64", (4,))
    before, after = manifest.graphs.pre.signature, manifest.graphs.post.signature
    carrying = with_graph(good, "pre", signature=Signature(before.inputs, (*before.outputs, place)))
    taken = TensorSpec("placement", "float64", ("batch", 4))
    carrying = with_graph(carrying, "post", signature=Signature((*after.inputs, taken), after.outputs))
    assert "`pre` carries 'placement' of the whole one" in refusal(carrying)


def test_two_golden_cases_of_one_name(manifest: Manifest) -> None:
    cases = (GoldenCase("a", "golden/000.bin", "golden/000.npz"),) * 2
    message = refusal(msgspec.structs.replace(manifest, golden=Golden("torch", False, cases)))
    assert message == "the name 'a' stands twice at `$.golden.cases`"


def test_pre_takes_one_item(manifest: Manifest) -> None:
    signature = Signature(manifest.graphs.net.signature.inputs, manifest.graphs.net.signature.inputs)
    message = refusal(with_graph(manifest, "pre", batch=True, signature=signature))
    assert message == "`pre` takes one item, so its `batch` is false at `$.graphs.pre.batch`"


def test_a_graph_whose_input_nobody_gives(manifest: Manifest) -> None:
    other = Signature((TensorSpec("pixels", "float32", ("batch", 3)),), manifest.graphs.net.signature.outputs)
    message = refusal(with_graph(manifest, "net", signature=other))
    assert message == "nothing before `net` gives its input 'pixels' at `$.graphs.net.signature.inputs[0]`"


def test_a_graph_that_is_given_another_datatype(manifest: Manifest) -> None:
    other = Signature((TensorSpec("logits", "float16", ("batch", 3)),), manifest.outputs)
    message = refusal(with_graph(manifest, "post", signature=other))
    assert "`post` takes 'logits' as float16 and is given float32" in message


def test_outputs_of_the_network_that_post_does_not_need(manifest: Manifest) -> None:
    net = manifest.graphs.net.signature
    more = Signature(net.inputs, (*net.outputs, TensorSpec("features", "float32", ("batch", 512))))
    check_manifest(with_graph(manifest, "net", signature=more))


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([], "a graph without inputs"),
        ([("input", "float32", ("b", 3)), ("input", "float32", ("b", 3))], "'input' stands twice"),
        ([("input", "float", ("b", 3))], "unknown datatype 'float'; known: bool, uint8"),
        ([("input", "float32", ("b", -1))], "expected a size or the name of a dimension, got -1"),
        ([("input", "float32", ("b", ""))], "expected a size or the name of a dimension, got ''"),
        ([("input", "float32", (1, 3))], "the first axis of float32[1, 3] is not open"),
        ([("input", "float32", ())], "the first axis of float32[] is not open"),
    ],
)
def test_signatures_that_are_refused(manifest: Manifest, specs: list[Any], words: str) -> None:
    signature = Signature(tuple(TensorSpec(*spec) for spec in specs), manifest.graphs.net.signature.outputs)
    message = refusal(with_graph(manifest, "net", signature=signature))
    assert words in message
    assert "`$.graphs.net.signature.inputs" in message


def test_a_fixed_batch_is_said_so(manifest: Manifest) -> None:
    fixed = Signature((TensorSpec("input", "float32", (1, 3)),), (TensorSpec("logits", "float32", (1, 3)),))
    check_manifest(with_graph(manifest, "net", batch=False, signature=fixed))


def test_a_graph_without_outputs(manifest: Manifest) -> None:
    message = refusal(
        with_graph(manifest, "post", signature=Signature(manifest.graphs.post.signature.inputs, ()))
    )
    assert message == "a graph without outputs at `$.graphs.post.signature.outputs`"
