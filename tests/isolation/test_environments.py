"""Private environments: made once and whole or not at all, used again, listed, cleared. No network needed."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from modelport.cli.main import run
from modelport.errors import ModelportError, NotFound, Unsupported
from modelport.importers.isolated import open_worker
from modelport.importers.source import Permission
from modelport.isolation import environments
from modelport.isolation.environments import Install, Table


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "environments"))
    return tmp_path / "environments"


def wheel(folder: Path, name: str) -> Path:
    """A wheel with one module that holds one number."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    made = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return made


def table(*requirements: str) -> Table:
    return Table("small", "test", "free", 1, {"no-such-thing": "1.0"}, (Install(requirements, alone=True),))


def test_a_package_may_be_too_old_and_too_new() -> None:
    def lacking(least: str, below: str) -> list[str]:
        return environments.lacks(Table("small", "", "", 1, {"numpy": least}, (), {"numpy": below}))

    assert lacking("1.20", "999") == []
    assert lacking("1.0", "1.1") == ["numpy >= 1.0, < 1.1"]
    assert lacking("998", "999") == ["numpy >= 998, < 999"]


def test_one_is_made_used_again_listed_and_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = table(str(wheel(tmp_path, "fortytwo")))
    assert environments.python_of(wanted) is None
    said: list[str] = []
    python = environments.make(wanted, said.append)
    assert any("fortytwo" in step for step in said)
    code = "import fortytwo; print(fortytwo.answer)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "42"
    assert environments.python_of(wanted) == python

    said.clear()
    assert environments.make(wanted, said.append) == python and not said

    other = table("something-else")
    assert environments.python_of(other) is None and other.folder != wanted.folder

    (one,) = environments.listed()
    assert one.name == "small" and one.made and one.bytes > 1_000_000
    assert not one.current  # no table of this name ships
    with environments.locked(wanted.folder, shared=True), pytest.raises(Unsupported, match="in use"):
        environments.clear("small")
    assert environments.python_of(wanted) == python
    assert run(["doctor", "--envs", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["environments"][0]["path"] == str(wanted.folder)
    assert run(["doctor", "--envs", "--clear", "small"]) == 0
    assert environments.listed() == [] and not wanted.folder.exists()


def test_the_time_that_making_one_took_is_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = table(str(wheel(tmp_path, "fortytwo")))
    monkeypatch.setattr(environments, "table", lambda _: wanted)
    permission = Permission(isolate=True)
    for _ in range(2):  # the second time it is there
        with pytest.raises(ModelportError):
            open_worker("no_such_converter", "small", permission)
        assert len(permission.making) == 1 and permission.making[0] > 0
    assert Permission().making == []


def test_one_that_was_cut_short_is_not_used_and_is_made_anew(tmp_path: Path) -> None:
    wanted = table(str(wheel(tmp_path, "fortytwo")))
    (wanted.folder / "bin").mkdir(parents=True)
    (wanted.folder / "bin" / "python").symlink_to(sys.executable)
    assert environments.python_of(wanted) is None
    assert [one.made for one in environments.listed()] == [False]
    python = environments.make(wanted, lambda step: None)
    done = subprocess.run([python, "-I", "-c", "import fortytwo"], check=False)
    assert done.returncode == 0


TOGETHER = """
import sys, msgspec
from modelport.isolation import environments
wanted = msgspec.json.decode(sys.argv[1], type=environments.Table)
said = []
environments.make(wanted, said.append)
print(sum("virtual environment" in step for step in said))
"""


def test_two_processes_at_once_make_one(tmp_path: Path) -> None:
    wanted = table(str(wheel(tmp_path, "fortytwo")))
    command = [sys.executable, "-c", TOGETHER, msgspec.json.encode(wanted).decode()]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    made = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(made) == ["0", "1"]


def test_without_a_network_it_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    wanted = table("modelport-has-no-such-package==1.0")
    with pytest.raises(Unsupported, match=r"not made: .*Connection refused") as refused:
        environments.make(wanted, lambda step: None)
    assert "mirror" in (refused.value.hint or "")
    assert environments.listed() == []


def test_a_wrong_requirement_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no zip")
    with pytest.raises(Unsupported, match=r"broken-1\.0"):
        environments.make(table(str(broken)), lambda step: None)
    assert environments.listed() == []


def test_the_tables_that_ship_are_pinned() -> None:
    assert "ultralytics" in environments.names()
    for name in environments.names():
        shipped = environments.table(name)
        assert shipped.purpose and shipped.licence
        assert shipped.install and shipped.needs
        for step in shipped.install:
            assert all("==" in each or "," in each for each in step.requirements), step
    with pytest.raises(NotFound, match="ultralytic"):
        environments.table("ultralytic")
    with pytest.raises(NotFound):
        environments.clear("nothing")


def test_what_the_current_environment_lacks_is_told_by_version() -> None:
    wanted = msgspec.structs.replace(
        table("x"), needs={"numpy": "1.0", "onnx": "999.0", "no-such-thing": "1.0"}
    )
    assert environments.lacks(wanted) == ["onnx >= 999.0", "no-such-thing >= 1.0"]
