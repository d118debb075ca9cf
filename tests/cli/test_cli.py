"""The verbs, called as a shell calls them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from modelport.cli.main import VERBS, load, root

from ..colours import LABELS, RECIPE, pack_colours, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cli")
    pack_colours(where)
    (where / "broken.png").write_bytes(picture("red", (300, 300))[:200])
    (where / "notes.txt").write_text("no picture")
    (where / "empty.onnx").write_bytes(b"")
    squares = RECIPE.replace("size = 8", 'size = "$size"').replace('"chw"', '"hwc"')
    (where / "hwc.toml").write_text(squares + "[parameters]\nsize = 8\n")
    return where


def modelport(*arguments: object, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelport", *map(str, arguments)],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, tmp_path: Path) -> None:
    done = modelport(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Usage: modelport" in done.stdout and not done.stderr


def test_a_wrong_verb_or_flag_is_2_with_the_nearest_one(tmp_path: Path) -> None:
    done = modelport("predcit", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean 'predict'" in done.stderr
    done = modelport("verify", "--jsno", "x", cwd=tmp_path)
    assert done.returncode == 2 and "--json" in done.stderr
    assert modelport(cwd=tmp_path).returncode in (0, 2)


def test_predict_files_directories_and_globs(folder: Path) -> None:
    one = modelport("predict", "repo/colours", "photos/red.png", cwd=folder)
    assert one.returncode == 0 and "red" in one.stdout
    for what in (["photos"], ["photos/*.png"], [f"photos/{c}.png" for c in sorted(LABELS)]):
        done = modelport("predict", "repo/colours", *what, "--json", "--top", "1", cwd=folder)
        assert done.returncode == 0, done.stderr
        got = {Path(str(line["file"])).stem: line["answer"] for line in lines(done)}
        assert {stem: answer[0]["label"] for stem, answer in got.items()} == {c: c for c in LABELS}
        assert all(len(answer) == 1 for answer in got.values())


def test_predict_goes_on_past_what_cannot_be_answered(folder: Path) -> None:
    done = modelport(
        "predict",
        "repo/colours",
        "photos/red.png",
        "broken.png",
        "missing.png",
        "photos/blue.png",
        "--json",
        cwd=folder,
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr
    answers = lines(done)
    assert ["error" in line for line in answers] == [False, True, True, False]
    assert "missing.png" in str(answers[2]["error"])
    table = modelport("predict", "repo/colours", "photos/red.png", "missing.png", cwd=folder)
    assert table.returncode == 3 and "error:" in table.stdout and "1 could not be answered" in table.stderr


def test_predict_finds_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for what in (tmp_path / "empty", "none/*.png"):
        done = modelport("predict", "repo/colours", what, cwd=folder)
        assert done.returncode == 3 and f"nothing matches {what}" in done.stderr
        assert not done.stdout and ".png, " not in done.stderr


def test_predict_answers_each_line_as_it_is_read(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modelport", "predict", "repo/colours", "-", "--json"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    for name, expected in (("photos/green.png", "green"), ("nowhere.png", None), ("photos/red.png", "red")):
        process.stdin.write(name + "\n")
        process.stdin.flush()
        # The pipe stays open: an answer that waited for the end of the input would never come.
        line = json.loads(process.stdout.readline())
        assert line["file"] == name
        assert ("error" in line) if expected is None else line["answer"][0]["label"] == expected
    process.stdin.close()
    assert process.wait(30) == 3
    process.stdout.close()


def test_predict_survives_a_reader_that_leaves(folder: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m modelport predict repo/colours - --json | head -n 1"
    names = "photos/red.png\n" * 200
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        input=names,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
    assert json.loads(done.stdout)["answer"][0]["label"] == "red"
    assert done.returncode == 0


def test_inspect_in_words_json_and_card(folder: Path) -> None:
    table = modelport("inspect", "repo/colours", cwd=folder)
    assert table.returncode == 0
    for words in ("image-classification", "resize(", "kernel=nearest", "3: red · green · blue", "net.onnx"):
        assert words in table.stdout, words
    about = json.loads(modelport("inspect", "repo/colours", "--json", cwd=folder).stdout)
    assert about["schema"] == "modelport.inspect/1" and about["manifest"]["name"] == "colours"
    assert modelport("inspect", "repo/colours", "--card", cwd=folder).stdout.strip()


def test_verify_says_yes_no_and_bad(folder: Path, tmp_path: Path) -> None:
    good = modelport("verify", "repo/colours", "--json", cwd=folder)
    assert good.returncode == 0 and json.loads(good.stdout)["ok"] is True
    assert modelport("verify", "repo/colours", cwd=folder).returncode == 0
    shutil.copytree(folder / "repo", tmp_path / "repo")
    net = tmp_path / "repo" / "colours" / "1" / "net.onnx"
    net.write_bytes(net.read_bytes() + b"\x00")
    bad = modelport("verify", "repo/colours", cwd=tmp_path)
    assert bad.returncode == 3 and "net.onnx" in bad.stderr
    assert modelport("verify", "nowhere", cwd=tmp_path).returncode == 3


def test_pack_from_the_shell(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    arguments = [
        "pack",
        folder / "colours.onnx",
        "--recipe",
        folder / "colours.toml",
        "--labels",
        "labels.txt",
    ]
    done = modelport(*arguments, "--golden", folder / "photos", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["golden_cases"] == 3
    again = modelport(*arguments, "-o", "out", cwd=tmp_path)
    assert again.returncode != 0 and "--model-version" in again.stderr
    (tmp_path / "colours.csv").write_text("a,b\n1,2\n")
    csv = modelport("pack", "colours.csv", "-o", "out", cwd=tmp_path)
    assert csv.returncode == 3 and "exists" not in csv.stderr, "what is no model is said first"
    second = modelport(*arguments, "-o", "out", "--model-version", "2", cwd=tmp_path)
    assert second.returncode == 0 and "version 2" in second.stdout
    assert (tmp_path / "out" / "colours" / "2" / "modelport.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.onnx", "--recipe", "imagenet"], 3, "missing.onnx"),
        (["notes.txt", "--recipe", "imagenet"], 3, "notes.txt"),
        (["colours.onnx", "--recipe", "imagnet"], 2, "imagenet"),
        (["colours.onnx", "--recipe", "colours.toml", "--set", "size"], 2, "KEY=VALUE"),
        (["colours.onnx", "--recipe", "colours.toml", "--set", "sise=8"], 2, "sise"),
        (["colours.onnx", "--recipe", "digits"], 2, ""),
        (["colours.onnx", "--recipe", "colours.toml", "--name", "a.net"], 2, "the network of 'a'"),
        (["empty.onnx", "--recipe", "imagenet"], 3, "is empty (0 bytes)"),
        (["colours.onnx", "--recipe", "hwc.toml"], 2, "channels are elsewhere"),
        (["colours.onnx", "--recipe", "colours.toml", "-o", "notes.txt"], 2, "is not a folder"),
    ],
)
def test_pack_refuses_in_words(
    folder: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    out = [] if "-o" in arguments else ["-o", tmp_path / "out"]
    done = modelport("pack", *arguments, *out, cwd=folder)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("modelport.json"))


def test_pack_takes_what_a_shell_makes_of_a_glob(folder: Path, tmp_path: Path) -> None:
    photos = sorted((folder / "photos").iterdir())
    arguments = [
        "pack",
        folder / "colours.onnx",
        "--recipe",
        folder / "colours.toml",
        "-o",
        tmp_path,
        "--json",
    ]
    done = modelport(*arguments, "--golden", *photos, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["golden_cases"] == len(photos) == 3
    loose = modelport(*arguments, *photos, cwd=folder)
    assert loose.returncode == 2 and "one SOURCE" in loose.stderr


def test_settings_come_from_files_and_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, photo = folder / "repo" / "colours", folder / "photos" / "red.png"
    (tmp_path / "modelport.toml").write_text("[predict]\ntop = 1\nas_json = true\n[verify]\nthreads = 2\n")
    assert len(lines(modelport("predict", bundle, photo, cwd=tmp_path))[0]["answer"]) == 1  # type: ignore[arg-type]
    monkeypatch.setenv("MODELPORT_PREDICT_TOP", "2")
    assert len(lines(modelport("predict", bundle, photo, cwd=tmp_path))[0]["answer"]) == 2  # type: ignore[arg-type]
    flag = modelport("predict", bundle, photo, "--top", 3, cwd=tmp_path)
    assert len(lines(flag)[0]["answer"]) == 3  # type: ignore[arg-type]
    told = json.loads(modelport("doctor", "--json", cwd=tmp_path).stdout)["settings"]
    assert {(s["name"], s["value"], s["origin"]) for s in told} == {
        ("predict.top", "2", "MODELPORT_PREDICT_TOP"),
        ("predict.as_json", "True", "modelport.toml"),
        ("verify.threads", "2", "modelport.toml"),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[predict]\ntpo = 1", "did you mean 'top'"),
        ("[perdict]\ntop = 1", "did you mean 'predict'"),
        ("predict = 1", "a table for each verb"),
        ("[predict", "cannot read modelport.toml"),
        ("[predict]\ntop = 'many'", "many"),
    ],
)
def test_wrong_settings_are_refused_in_words(folder: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "modelport.toml").write_text(text)
    done = modelport("predict", folder / "repo" / "colours", folder / "photos" / "red.png", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_one_answer_to_every_picture_is_doubted(folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(picture("red", (20 + number, 30)))
    (photos / "0.jpg").write_bytes(picture("green", kind="JPEG"))
    done = modelport(
        "pack",
        "colours.onnx",
        "--recipe",
        "colours.toml",
        "--golden",
        photos,
        "-o",
        tmp_path / "out",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "6 of 7 golden pictures were answered '0'" in done.stderr


def test_doctor_knows_this_machine(tmp_path: Path) -> None:
    about = json.loads(modelport("doctor", "--json", cwd=tmp_path).stdout)
    assert about["ok"] and about["runtimes"][0]["name"] == "onnxruntime" and about["cores"] >= 1
    assert {"sklearn", "xgboost", "lightgbm", "catboost"} <= {
        feature["name"] for feature in about["features"]
    }
    table = modelport("doctor", cwd=tmp_path)
    assert table.returncode == 0 and "onnxruntime" in table.stdout


def test_the_demo_answers_one_digit(tmp_path: Path) -> None:
    done = modelport("demo", "--once", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "true digit" in done.stdout and " ms" in done.stdout


def test_the_demo_serves_the_digits_page(tmp_path: Path) -> None:
    import httpx

    process = subprocess.Popen(
        [sys.executable, "-m", "modelport", "demo", "--no-browser", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        reply = httpx.get(url, follow_redirects=True, timeout=30)
        assert reply.status_code == 200 and "canvas" in reply.text
    finally:
        process.terminate()
        started = time.monotonic()
        assert process.wait(30) in (0, -15)
        assert time.monotonic() - started < 30
        process.stdout.close()  # type: ignore[union-attr]


def test_serve_lists_each_option_once_under_its_heading() -> None:
    done = CliRunner().invoke(root, ["serve", "--help"], prog_name="modelport")
    text, _, other = done.output.partition("Other options:")
    assert other.split() == ["-h,", "--help", "Show", "this", "message", "and", "exit."]
    for option in load("serve").params:
        if isinstance(option, click.Option) and option.name != "help":
            assert len(re.findall(rf"^  {option.opts[0]}\b", text, re.M)) == 1, option.opts
