"""Hugging Face folders: recognised, refused with reasons, and packed as their own processors prepare."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.bundle.store import Bundle
from modelport.errors import InputError, Unsupported, UsageError
from modelport.importers.huggingface import HuggingFaceImporter, folder_of
from modelport.importers.pack import pack
from modelport.importers.source import Permission, find_importer
from modelport.isolation import environments
from modelport.isolation.child import huggingface as child
from modelport.isolation.child.converter import NotConverted, Refused
from modelport.isolation.child.huggingface_pictures import steps
from modelport.isolation.child.huggingface_text import word_steps
from modelport.runtimes.pipeline import Pipeline
from modelport.steps.compile import PRE_STEPS, reference_pre
from modelport.steps.step import parse_steps

from . import hf_folders as folders

pytestmark = pytest.mark.frameworks

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("vit.ViT", {"size": {"height": 32, "width": 40}}),
    ("vit.ViT", {"size": {"height": 32, "width": 32}, "do_normalize": False}),
    ("vit.ViT", {"size": {"height": 32, "width": 32}, "do_rescale": False, "resample": 0}),
    ("deit.DeiT", {"size": {"height": 41, "width": 41}, "crop_size": {"height": 32, "width": 30}}),
    ("convnext.ConvNext", {"size": {"shortest_edge": 57}, "crop_pct": 0.9}),
    ("convnext.ConvNext", {"size": {"shortest_edge": 384}}),
    ("clip.CLIP", {"size": {"shortest_edge": 39}, "crop_size": {"height": 32, "width": 32}}),
    ("levit.Levit", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
    ("mobilevit.MobileViT", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}),
    ("mobilenet_v2.MobileNetV2", {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}}),
    ("efficientnet.EfficientNet", {"size": {"height": 32, "width": 32}, "rescale_offset": True}),
    ("efficientnet.EfficientNet", {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5}),
    ("poolformer.PoolFormer", {"size": {"shortest_edge": 40}, "crop_size": {"height": 40, "width": 40}}),
    ("detr.Detr", {"size": {"shortest_edge": 60, "longest_edge": 100}}),
    ("rt_detr.RTDetr", {"size": {"height": 48, "width": 64}}),
    ("yolos.Yolos", {"size": {"shortest_edge": 60, "longest_edge": 100}}),
]


@pytest.mark.parametrize(("name", "settings"), PROCESSORS)
def test_steps_give_the_bytes_of_the_image_processor(name: str, settings: dict[str, Any]) -> None:
    own = folders.processor(name, **settings)
    made = parse_steps(steps(own, 3), PRE_STEPS, "$")
    # YOLOS makes nothing at all of the last, which is 9 pixels high and 300 wide.
    for picture in folders.scenes(7 if name == "yolos.Yolos" else 8):
        want = np.asarray(own(images=picture, return_tensors="np")["pixel_values"][0])
        got = reference_pre(made, picture)
        assert got.dtype == want.dtype or not settings.get("do_rescale", True)
        np.testing.assert_array_equal(got, want, str(picture.shape))


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("vit.ViT", {"resample": 1}, "resamples with Lanczos"),
        ("vit.ViT", {"do_pad": True, "pad_size": {"height": 300, "width": 300}}, "pad_size"),
        ("vit.ViT", {"size": {"max_height": 30, "max_width": 40}}, "no step"),
    ],
)
def test_what_no_step_does_is_named(name: str, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(NotConverted, match=why):
        steps(folders.processor(name, **settings), 3)


def test_a_folder_or_a_file_of_it_is_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert folder_of(folder) is None
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (folder / "model.safetensors").write_bytes(bytes(100))
    for source in (folder, folder / "config.json", folder / "model.safetensors", str(folder)):
        assert isinstance(find_importer(source), HuggingFaceImporter)
    for other in ('{"a": 1}', "[1]", "no JSON", '{"model_type": "vit"'):
        (folder / "config.json").write_text(other)
        assert not HuggingFaceImporter().recognises(folder)
    assert not HuggingFaceImporter().recognises(object())


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "flax_model.msgpack").write_bytes(b"")
    with pytest.raises(InputError, match=r"but flax_model\.msgpack") as refused:
        HuggingFaceImporter().open(tmp_path)
    assert "save_pretrained" in str(refused.value.hint)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="pointer of Git LFS"):
        HuggingFaceImporter().open(tmp_path)


def test_a_pickle_is_not_opened_without_trust(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(os.system))
    with pytest.raises(Unsupported, match=r"posix\.system.*no such file needs") as refused:
        HuggingFaceImporter().open(tmp_path)
    assert "do not open it" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}, r"\(mine\); it is never run"),
        ({"model_type": "of_tomorrow"}, "knows no model type 'of_tomorrow'"),
        ({"model_type": "resnet", "architectures": ["ResNetModel"]}, "holds ResNetModel"),
        ({"model_type": "resnet"}, "a network without a head"),
    ],
)
def test_what_is_not_converted_is_told(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with folders.transformers() as library, pytest.raises(NotConverted, match=why):
        child._task(child._config(library, tmp_path))


def test_weights_that_are_others_or_cut_short_are_refused(tmp_path: Path) -> None:
    weights = folders.pictures(tmp_path) / "model.safetensors"
    with folders.transformers() as library:
        import torch

        def read(kind: str) -> Any:
            config = library.AutoConfig.from_pretrained(tmp_path)
            return child._model(library, torch, tmp_path, config, kind)

        assert read("ResNetForImageClassification")[1] == []
        held = library.ResNetModel.from_pretrained(tmp_path)
        held.save_pretrained(tmp_path)
        with pytest.raises(Refused, match=r"2 tensors are missing \(classifier\.1\.bias"):
            read("ResNetForImageClassification")
        weights.write_bytes(weights.read_bytes()[:-2000])
        with pytest.raises(Refused, match="the weights cannot be read for ResNetForImageClassification"):
            read("ResNetForImageClassification")
        with pytest.raises(NotConverted, match="has no ResNetForTomorrow"):
            read("ResNetForTomorrow")


def test_a_classifier_of_pictures_is_packed_as_its_processor_says(tmp_path: Path) -> None:
    own = folders.processor("convnext.ConvNext", size={"shortest_edge": 57}, crop_pct=0.9)
    notes: list[str] = []
    folder = folders.pictures(tmp_path / "zoo", own)
    bundle = pack(folder, out=tmp_path / "repository", progress=notes.append)
    assert any("ConvNextImageProcessor" in note and "in every bit" in note for note in notes)
    told = bundle.manifest
    assert told.task == "image-classification"
    assert told.labels is not None
    assert told.graphs.net.batch
    assert [next(iter(step)) for step in told.steps.pre][:2] == ["resize", "center_crop"]
    assert told.lineage.source is not None and told.lineage.source.format == "huggingface"
    assert "ResNetForImageClassification" in told.lineage.source.framework


@pytest.mark.parametrize(
    ("kind", "name", "settings", "activation"),
    [
        ("Yolos", "yolos.Yolos", {"size": {"shortest_edge": 60, "longest_edge": 100}}, "softmax"),
        ("RTDetr", "rt_detr.RTDetr", {"size": {"height": 64, "width": 64}}, "sigmoid"),
    ],
)
def test_detectors_are_packed_with_the_head_of_their_family(
    kind: str, name: str, settings: dict[str, Any], activation: str, tmp_path: Path
) -> None:
    folder = folders.detector(tmp_path / "net", kind, folders.processor(name, **settings))
    notes: list[str] = []
    bundle = pack(folder, out=tmp_path / "repo", progress=notes.append)
    told = bundle.manifest
    assert told.task == "object-detection"
    # Of two that torch.export fixes at two pictures, tracing makes one for any number.
    assert told.graphs.net.signature.inputs[0].shape[0] == "batch" or "row by row" in str(notes)
    assert told.steps.post[0]["scored_boxes"]["activation"] == activation
    assert told.lineage.source is not None
    assert f"{kind}ForObjectDetection" in told.lineage.source.framework
    assert bundle.labels() == ("cat", "dog", "yak")


def test_pickled_weights_are_opened_with_trust(tmp_path: Path) -> None:
    own = folders.processor("vit.ViT", size={"height": 24, "width": 24}, image_mean=[0.4], image_std=[0.3])
    folder = folders.pictures(tmp_path / "grey", own, channels=1, pickled=True)
    with pytest.raises(Unsupported, match=r"pytorch_model\.bin, a pickle"):
        pack(folder, out=tmp_path / "out")
    bundle = pack(folder, out=tmp_path / "out", permission=Permission(trust=True))
    assert next(iter(bundle.manifest.steps.pre[0])) == "grayscale"


def test_a_folder_without_an_image_processor_says_so(tmp_path: Path) -> None:
    folder, taken = folders.pictures(tmp_path / "bare"), ["pixel_values:float32[batch,3,24,24]"]
    told: list[str] = []
    with pytest.raises(UsageError, match="how it is prepared"):
        pack(folder, out=tmp_path / "out", inputs=taken, permission=Permission(tell=told.append))
    assert any("no image processor (preprocessor_config.json)" in each for each in told)


def answers(bundle: Bundle, text: str) -> dict[str, Any]:
    with Pipeline.open(bundle) as pipeline:
        return pipeline.answer(pipeline.decode(text.encode()))


def expected(folder: Path, text: str) -> list[float]:
    """transformers' own answer."""
    with folders.transformers() as library:
        import torch

        tokenizer = library.AutoTokenizer.from_pretrained(folder)
        model = library.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        batch = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            return sorted(model(**batch).logits.softmax(-1)[0].tolist(), reverse=True)


def old_style(folder: Path) -> dict[str, int]:
    """Leaves the vocabulary alone of a tokenizer."""
    vocabulary: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (folder / "tokenizer.json").unlink()
    return vocabulary


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_classifier_of_texts_keeps_its_tokenizer(tmp_path: Path, kind: str) -> None:
    tokenizer = folders.word_pieces() if kind == "Bert" else folders.byte_pairs()
    folder = folders.texts(tmp_path / "reviews", kind, tokenizer)
    vocabulary = old_style(folder) if kind == "Bert" else None
    bundle = pack(folder, out=tmp_path / "out")
    told = bundle.manifest
    assert told.task == "text-classification"
    assert told.decode.tokenizer == "tokenizer.json"
    assert told.decode.max_length == 32
    names = {spec.name for spec in told.graphs.net.signature.inputs}
    assert names == {"input_ids", "attention_mask"} | ({"token_type_ids"} if kind == "Bert" else set())
    if vocabulary is not None:
        assert json.loads((bundle.path / "tokenizer.json").read_text())["model"]["vocab"] == vocabulary
    for text in (*folders.TEXTS, "word " * 100, ""):
        got = answers(bundle, text)
        np.testing.assert_allclose(np.ravel(got["scores"]), expected(folder, text), atol=1e-5)


def test_a_vocabulary_of_words_goes_into_the_graph(tmp_path: Path) -> None:
    folder = folders.texts(tmp_path / "words", "Bert", folders.whole_words())
    bundle = pack(folder, out=tmp_path / "out")
    told = bundle.manifest
    assert told.decode.tokenizer is None
    assert [next(iter(step)) for step in told.steps.pre] == [
        "lower",
        "split",
        "vocabulary",
        "truncate",
        "surround",
    ]
    for text in (*folders.TEXTS, "good\u00a0bad\nDULL", "word " * 100):
        got = answers(bundle, text)
        np.testing.assert_allclose(np.ravel(got["scores"]), expected(folder, text), atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"normalizer": {"type": "NFC"}},
        {"model": {"type": "WordPiece", "vocab": {"a": 0}}},
        {"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 7}, "unk_token": "a"}},
        {"post_processor": {"type": "BertProcessing"}},
    ],
)
def test_other_tokenizers_stay_files(change: dict[str, Any]) -> None:
    told = json.loads(folders.whole_words().backend_tokenizer.to_str())
    assert word_steps(told, 32) is not None
    assert word_steps(told | change, 32) is None


def test_real_sentences_are_golden_cases(tmp_path: Path, shared_data: Path) -> None:
    place = shared_data / "text"
    if not place.is_dir():
        pytest.skip("no texts in the shared data")
    lines = (place / "rt-polarity.pos").read_text("latin-1").splitlines()[:400]
    lines += (place / "rt-polarity.neg").read_text("latin-1").splitlines()[:400]
    samples = tmp_path / "samples"
    samples.mkdir()
    for number in range(0, 800, 50):
        (samples / f"{number}.txt").write_text(lines[number], "utf-8")
    folder = folders.texts(tmp_path / "polarity", "DistilBert", folders.word_pieces(lines, 2000))
    bundle = pack(folder, out=tmp_path / "out", golden=samples)
    assert bundle.manifest.golden is not None
    assert len(bundle.manifest.golden.cases) == 16
    assert not bundle.manifest.golden.generated


def test_the_private_environment_opens_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    if environments.python_of(environments.table("transformers")) is None:
        pytest.skip(f"no environment in {environments.root()}: modelport doctor --make transformers")
    own = folders.processor("vit.ViT", size={"height": 24, "width": 24}, resample=1)
    folder = folders.pictures(tmp_path / "zoo", own)
    monkeypatch.setattr(environments, "lacks", lambda wanted: ["transformers >= 5.20"])
    told: list[str] = []
    with pytest.raises(UsageError, match="how it is prepared"):
        pack(folder, out=tmp_path / "out", permission=Permission(tell=told.append))
    assert any("private environment transformers" in each for each in told)
    assert any("Lanczos" in each for each in told)
