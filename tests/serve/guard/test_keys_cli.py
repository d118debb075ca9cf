"""`modelport keys`, as a shell calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from modelport.cli import keys as verb
from modelport.cli.main import run
from modelport.errors import UsageError
from modelport.serve.guard.guard import Guard
from modelport.serve.guard.keys import read_keys

from .test_guard import bearer


def keys(*arguments: object, fails: str | None = None) -> Result:
    result = CliRunner().invoke(verb.command, [str(a) for a in arguments], obj=None)
    if fails is None:
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code != 0
        assert fails in (str(result.exception) if isinstance(result.exception, UsageError) else result.output)
    return result


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_key_is_printed_alone_on_standard_output_and_lets_its_owner_in() -> None:
    done = keys("add", "ci")
    key = done.stdout.strip()
    assert done.stdout == key + "\n" and key.startswith("mpk_") and "nowhere else" in done.stderr
    path = Path("modelport-keys.json")
    assert key not in path.read_text()
    assert Guard.open(path).authorize(bearer(key), "infer").name == "ci"


def test_everything_that_a_key_can_have(tmp_path: Path) -> None:
    done = keys(
        *("add", "ops", "--scope", "admin", "--scope", "metrics", "--scope", "admin", "--rate", "10/min"),
        *("--models", "digits, faces", "--expires", "90d", "--file", tmp_path / "k.json", "--json"),
    )
    told = json.loads(done.stdout)
    assert told["schema"] == "modelport.keys.add/1" and told["key"].startswith("mpk_")
    (key,) = read_keys(tmp_path / "k.json")[0].keys
    assert key.scopes == ("admin", "metrics") and key.rate == "10/min" and key.models == ("digits", "faces")
    assert key.created and key.expires and (key.expires - key.created).days == 90
    listed = json.loads(keys("--file", tmp_path / "k.json", "list", "--json").stdout)
    assert listed["schema"] == "modelport.keys.list/1"
    assert listed["keys"] == [{n: v for n, v in told.items() if n not in ("schema", "key")}]
    assert "hash" not in listed["keys"][0] and told["key"] not in json.dumps(listed)


def test_the_list_shows_who_and_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    keys("add", "ci", "--rate", "100/s", "--expires", "2999-12-31")
    keys("add", "old", "--models", "digits", "--expires", "0d")
    monkeypatch.setenv("COLUMNS", "160")
    shown = keys("list").stdout
    assert "100/s" in shown and "3000-01-01 00:00 UTC" in shown and "all" in shown
    assert "(over)" in shown and "digits" in shown and "no limit" in shown


def test_a_revoked_key_is_gone_and_its_name_is_free() -> None:
    first = keys("add", "ci").stdout.strip()
    keys("add", "ci", fails="'ci' already")
    keys("revoke", "ci")
    keys("revoke", "ci", fails="no key is called 'ci'")
    second = keys("add", "ci").stdout.strip()
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "a b"), "name"),
        (("add", "ci", "--scope", "root"), "root"),
        (("add", "ci", "--rate", "often"), "100/s"),
        (("add", "ci", "--models", "a,,b"), "separated by commas"),
        (("add", "ci", "--expires", "soon"), "2027-01-31"),
        (("add", "ci", "--expires", "2001-01-01"), "2001-01-01 is over"),
        (("add", "ci", "--expires", "9999-12-31"), "2027-01-31"),
        (("list",), "modelport keys add NAME"),
        (("revoke", "ci"), "modelport keys add NAME"),
        (("add", "ci", "--file", "no/such/folder.json"), "cannot write"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_written(arguments: tuple[str, ...], words: str) -> None:
    keys(*arguments, fails=words)
    assert not Path("modelport-keys.json").exists()


def test_the_verb_is_one_of_modelport_s(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELPORT_KEYS_FILE", "from-the-environment.json")
    assert run(["keys", "add", "ci"]) == 0
    assert capsys.readouterr().out.startswith("mpk_")
    assert Path("from-the-environment.json").exists()
    assert run(["keys", "add", "ci"]) == 2
    assert "revoke it" in capsys.readouterr().err
