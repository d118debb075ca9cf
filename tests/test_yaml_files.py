"""YAML that says more than it is long, and YAML that honest tools write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelport import yaml_files
from modelport.errors import InputError, NotFound, TooLarge, Unsupported
from modelport.evaluate.data import yolo
from modelport.importers.paddle_recipe import stated_beside
from modelport.yaml_files import read_yaml

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


def written(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_aliases_and_merge_keys_that_stand_for_little_are_read(tmp_path: Path) -> None:
    text = "a: &id001 [1, 2]\nb: *id001\nc: &c {x: 1, y: 2.5}\nd: {<<: *c, y: 3}\ne: [*id001, *id001]\n"
    want = {"a": [1, 2], "b": [1, 2], "c": {"x": 1, "y": 2.5}, "d": {"x": 1, "y": 3}, "e": [[1, 2], [1, 2]]}
    assert read_yaml(written(tmp_path, "\ufeff" + text)) == want
    assert read_yaml(written(tmp_path, "")) is None


@pytest.mark.parametrize("text", [ALIASES, MERGES], ids=["aliases", "merges"])
def test_what_grows_by_its_aliases_is_refused_before_it_does(text: str, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match=r"aliases written out it has over 8388608.*a\.yaml:\d+"):
        read_yaml(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]\n", "holds itself"),
        (f"a: 0x{'f' * 5000}\n", "a number of 5002 characters"),
        (f"a: 1{':1' * 5000}\n", "a number of 10001 characters"),
        ("[" * 5000, "too deep"),
        ("!!bool maybe", "not YAML"),
        ('!!int ""', "not YAML"),
        ("!!timestamp x", "not YAML"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
    ],
    ids=["cycle", "digits", "sixties", "deep", "bool", "int", "time", "object", "two"],
)
def test_what_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_yaml(written(tmp_path, text))


def test_long_files_and_missing_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        read_yaml(tmp_path / "none.yaml")
    monkeypatch.setattr(yaml_files, "MAX_BYTES", 1 << 20)
    with pytest.raises(TooLarge, match="over 1 MB"):
        read_yaml(written(tmp_path, "a" * ((1 << 20) + 1)))


def test_those_who_write_values_out_are_not_led_astray(tmp_path: Path) -> None:
    for bomb in (ALIASES, MERGES):
        written(tmp_path, f"{bomb}Preprocess: [{{type: *a11}}]\n", "infer_cfg.yml")
        stated = stated_beside(tmp_path / "model.pdmodel")
        assert stated is not None and "aliases written out" in stated.problem and len(stated.problem) < 500
        with pytest.raises(TooLarge):
            yolo.from_yaml(written(tmp_path, f"{bomb}names: [*a11]\nval: images\n", "data.yaml"), None)
    # Within the bounds, what is said of it is short all the same.
    long = "x" * 100_000
    written(
        tmp_path,
        f"PreProcess: {{transform_ops: [{{DecodeImage: {{to_rgb: false, a: {long}}}}}]}}\n"
        "PostProcess: {Topk: {topk: 1}}\n",
        "infer_cfg.yml",
    )
    stated = stated_beside(tmp_path / "model.pdmodel")
    assert stated is not None and stated.problem.startswith("decodes with") and len(stated.problem) < 500
    with pytest.raises(InputError, match="which is not there"):
        yolo.from_yaml(written(tmp_path, f"names: [a]\npath: {long}\nval: {long}\n", "data.yaml"), None)
    with pytest.raises(InputError, match="expected `names`"):
        yolo.from_yaml(written(tmp_path, f"names:\n  ? '{'1' * 5000}'\n  : a\n", "data.yaml"), None)


def test_without_the_reader_of_yaml_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(Unsupported) as refusal:
        read_yaml(written(tmp_path, "a: 1\n"))
    assert "pip install 'modelport[evaluate]'" in (refusal.value.hint or "")
