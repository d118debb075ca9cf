"""The keys file: what is in it, what is refused, and that nobody ever reads half of one."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from modelport.errors import UsageError
from modelport.serve.guard.keys import Keys, new_key, new_keys, read_keys, update, without


def add(path: Path, name: str, **more: object) -> str:
    made: list[str] = []

    def change(keys: Keys) -> Keys:
        keys, text = new_key(name, ("infer",), keys=keys, **more)
        made.append(text)
        return keys

    update(path, change)
    return made[0]


def test_the_file_holds_a_salted_hash_and_never_the_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    text = add(path, "ci")
    data = path.read_text()
    assert text.startswith("mpk_") and len(text) == 4 + 43
    assert text not in data and text[4:] not in data
    assert path.stat().st_mode & 0o777 == 0o600
    keys, _ = read_keys(path)
    assert keys.find("ci").hash == keys.digest(text).hex()
    # Another salt, another hash: equal keys in two files do not look equal.
    assert new_keys().digest(text) != keys.digest(text)
    assert add(path, "other") != text


def test_a_signing_key_is_kept_itself_since_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    text = add(path, "eas", signing=True)
    assert read_keys(path)[0].find("eas").signing == text


def test_names_are_taken_once_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "ci")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="'ci' already"):
        add(path, "ci")
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="did you mean 'ci'"):
        update(path, lambda keys: without(keys, "cii"))
    assert update(path, lambda keys: without(keys, "ci")).keys == ()
    add(path, "ci")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "line\nbreak"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"rate": "often"}, "100/s"),
        ({"scopes": ()}, "scope"),
        ({"scopes": ("root",)}, "root"),
        ({"expires": datetime(2027, 1, 1)}, "timezone"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(fields: dict[str, object], words: str) -> None:
    chosen: dict[str, object] = {"name": "ci", "scopes": ("infer",)} | fields
    name, scopes = chosen.pop("name"), chosen.pop("scopes")
    with pytest.raises(UsageError, match=words):
        new_key(name, scopes, keys=new_keys(), **chosen)  # type: ignore[arg-type]


def valid() -> dict[str, object]:
    keys, _ = new_key("ci", ("infer",), keys=new_keys(), expires=datetime.now(UTC) + timedelta(days=1))
    made: dict[str, object] = msgspec.to_builtins(keys)
    return made


def twice(file: dict[str, object], **changes: object) -> dict[str, object]:
    (key,) = file["keys"]  # type: ignore[misc]
    return file | {"keys": [key, key | changes]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: b"",
        lambda file: b"{",
        lambda file: b"\xff\xfe",
        lambda file: b"[" * 100_000,
        lambda file: msgspec.json.encode(file | {"schema": "modelport.keys/2"}),
        lambda file: msgspec.json.encode(file | {"salt": "short"}),
        lambda file: msgspec.json.encode(file | {"extra": 1}),
        lambda file: msgspec.json.encode(twice(file)),
        lambda file: msgspec.json.encode(twice(file, name="other")),
        lambda file: msgspec.json.encode(twice(file, name="other", hash="ab")),
        lambda file: msgspec.json.encode(twice(file, name="other", hash="0" * 64, models="digits")),
        lambda file: msgspec.json.encode(twice(file, name="other", hash="0" * 64, rate="0/s")),
        lambda file: b" " * (4 << 20) + msgspec.json.encode(file),
    ],
)
def test_a_damaged_file_is_refused_whole(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode(valid()))
    assert read_keys(path)[0].find("ci").scopes == ("infer",)
    path.write_bytes(damage(valid()))  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"keys\.json"):
        read_keys(path)


def test_files_that_are_not_there_or_are_everybodys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(UsageError, match="modelport keys add"):
        read_keys(path)
    add(path, "ci")
    path.chmod(0o666)
    with pytest.raises(UsageError, match="chmod 600"):
        read_keys(path)
    with pytest.raises(UsageError, match="cannot write"):
        add(tmp_path / "none" / "keys.json", "ci")


def test_the_mode_an_operator_chose_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "ci")
    path.chmod(0o640)
    add(path, "two")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "keys.json", tmp_path / "keys.json"
    add(real, "one")
    link.symlink_to(real)
    add(link, "two")
    assert link.is_symlink()
    assert [key.name for key in read_keys(real)[0].keys] == ["one", "two"]


def test_many_writers_lose_nothing_and_readers_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "first")
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(len(read_keys(path)[0].keys))

    def write(writer: int) -> None:
        for number in range(10):
            add(path, f"w{writer}-{number}")

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    done.set()
    reader.join(60)
    assert len(read_keys(path)[0].keys) == 41
    assert seen == sorted(seen) and seen
    assert os.listdir(tmp_path) == ["keys.json"]  # no temporary file stays
