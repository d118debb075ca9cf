"""Model repositories: which bundle a path means, which version is the newest, what a wrong path is told."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.bundle.layout import find_bundles, locate, version_key
from modelport.bundle.manifest import MANIFEST
from modelport.bundle.store import Bundle
from modelport.errors import BundleError, NotFound, UsageError

Write = Callable[[str, str], Bundle]

IN_ORDER = [
    *["alpha", "0.9", "1.0-alpha", "1.0-rc1", "1.0-rc2", "1.0-rc10", "1.0", "1.0.1", "1.9", "1.10"],
    *["2", "v3", "9", "10", "2024-01-31", "2024-02-01", "20240601"],
]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "repo"


def names(repo: Path) -> list[str]:
    return [path.relative_to(repo).as_posix() for path in find_bundles(repo)]


def test_versions_are_ordered_as_people_read_them() -> None:
    shuffled = list(IN_ORDER)
    random.Random(0).shuffle(shuffled)
    assert sorted(shuffled, key=version_key) == IN_ORDER


def test_a_number_that_no_int_takes() -> None:
    assert version_key("9" * 5000) != version_key("9" * 5001)


@given(st.text(max_size=20), st.text(max_size=20))
def test_the_order_is_total(one: str, two: str) -> None:
    assert (version_key(one) == version_key(two)) == (one == two)
    assert (version_key(one) < version_key(two)) == (version_key(two) > version_key(one))


def test_finds_folders_and_archives_by_name_then_version(repo: Path, write_version: Write) -> None:
    for name, version in [("b", "10"), ("b", "9"), ("a", "1.10"), ("a", "1.9"), ("b", "1")]:
        write_version(name, version)
    write_version("b", "2").save_as(repo / "b" / "2.zip")
    shutil.rmtree(repo / "b" / "2")
    assert names(repo) == ["a/1.9", "a/1.10", "b/1", "b/2.zip", "b/9", "b/10"]


def test_passes_over_what_is_no_bundle(repo: Path, write_version: Write) -> None:
    write_version("a", "1")
    (repo / "README.md").write_bytes(b"")
    (repo / "empty").mkdir()
    (repo / "a" / "notes").mkdir()
    (repo / "a" / "notes.txt").write_bytes(b"")
    shutil.copytree(repo / "a" / "1", repo / "a" / ".2.0123456789ab")  # being written
    shutil.copytree(repo / "a", repo / ".a")
    assert names(repo) == ["a/1"]


def test_the_newest_version_is_opened(repo: Path, write_version: Write) -> None:
    for version in ("9", "10", "10-rc1"):
        write_version("a", version)
    assert Bundle.open(repo / "a").manifest.version == "10"
    assert Bundle.open(repo / "a" / "9").manifest.version == "9"


def test_a_repository_of_one_model_is_opened(repo: Path, write_version: Write) -> None:
    write_version("a", "1")
    write_version("a", "2")
    assert Bundle.open(repo).manifest.version == "2"


def test_a_repository_of_several_models_names_them(repo: Path, write_version: Write) -> None:
    for name in ("digits", "photos"):
        write_version(name, "1")
    with pytest.raises(UsageError) as caught:
        Bundle.open(repo)
    assert "holds 2 models: digits, photos" in str(caught.value)
    assert f"open {repo / 'digits'}" in str(caught.value)


def test_a_version_may_be_an_archive(repo: Path, tiny: Bundle) -> None:
    tiny.save_as(repo / "tiny" / "1.zip")
    shutil.rmtree(tiny.path)
    for path in (repo, repo / "tiny", repo / "tiny" / "1", repo / "tiny" / "1.zip"):
        bundle = Bundle.open(path)
        assert bundle.path == repo / "tiny" / "1.zip"
        assert bundle.digest == tiny.digest


def test_the_manifest_itself_means_its_folder(tiny: Bundle) -> None:
    assert Bundle.open(tiny.path / MANIFEST) == tiny


def test_a_folder_may_have_another_name_than_the_manifest_says(tiny: Bundle, repo: Path) -> None:
    (repo / "tiny").rename(repo / "renamed")
    assert Bundle.open(repo / "renamed" / "1").manifest.name == "tiny"
    assert names(repo) == ["renamed/1"]


def test_two_bundles_may_not_claim_one_version(tiny: Bundle, repo: Path) -> None:
    shutil.copytree(tiny.path, repo / "tiny" / "2")
    with pytest.raises(BundleError) as caught:
        find_bundles(repo)
    message = str(caught.value)
    assert f"tiny 1 is claimed twice, by {repo / 'tiny' / '1'} and by {repo / 'tiny' / '2'}" in message
    assert "a copy of a folder does not make one" in message


def test_a_folder_and_an_archive_of_one_version(tiny: Bundle, repo: Path) -> None:
    tiny.save_as(repo / "tiny" / "1.zip")
    with pytest.raises(BundleError, match="tiny 1 is claimed twice"):
        find_bundles(repo)


def test_two_models_may_not_claim_one_name(tiny: Bundle, repo: Path) -> None:
    shutil.copytree(repo / "tiny", repo / "copy")
    with pytest.raises(BundleError, match="tiny 1 is claimed twice"):
        find_bundles(repo)


def test_a_link_to_a_version_that_is_here_is_not_another(repo: Path, write_version: Write) -> None:
    write_version("a", "1")
    write_version("a", "2")
    (repo / "a" / "latest").symlink_to("1", target_is_directory=True)
    assert names(repo) == ["a/1", "a/2"]
    assert Bundle.open(repo / "a" / "latest").manifest.version == "1"


def test_a_link_to_a_version_elsewhere_is_one(tiny: Bundle, repo: Path, tmp_path: Path) -> None:
    tiny.path.rename(tmp_path / "elsewhere")
    (repo / "tiny" / "1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names(repo) == ["tiny/1"]
    assert Bundle.open(repo).path == tmp_path / "elsewhere"


def test_a_damaged_bundle_is_found_and_says_why_when_opened(repo: Path, write_version: Write) -> None:
    write_version("a", "1")
    (write_version("a", "2").path / MANIFEST).write_bytes(b"{")
    (repo / "a" / "3.zip").write_bytes(b"PK")
    assert names(repo) == ["a/1", "a/2", "a/3.zip"]
    for version, words in (("2", "is not a manifest"), ("3.zip", "cannot be read")):
        with pytest.raises(BundleError, match=words):
            Bundle.open(repo / "a" / version)


def refusal(path: Path | str, kind: type[Exception] = NotFound) -> str:
    with pytest.raises(kind) as caught:
        Bundle.open(path)
    return str(caught.value)


def test_a_missing_path_is_told_what_there_is(repo: Path, write_version: Write) -> None:
    for name, version in [("a", "9"), ("a", "10"), ("b", "1")]:
        write_version(name, version)
    assert f"no bundle at '{repo}/a/11'" in refusal(repo / "a" / "11")
    assert f"versions in {repo / 'a'}: 9, 10" in refusal(repo / "a" / "11")
    assert f"models in {repo}: a, b" in refusal(repo / "c")
    assert "hint" not in refusal(repo / "c" / "d" / "e")
    assert "hint" not in refusal(repo.parent / "other")


@pytest.mark.parametrize("path", ["a\0b", "/\0"])
def test_a_path_that_is_none(path: str) -> None:
    assert "no bundle at" in refusal(path)


def test_an_empty_path_is_here(monkeypatch: pytest.MonkeyPatch, tiny: Bundle) -> None:
    monkeypatch.chdir(tiny.path)
    assert Bundle.open("") == tiny


def test_an_empty_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path, BundleError)
    assert f"no bundle in '{tmp_path}': it has no modelport.json and no NAME/VERSION folders" in message
    assert "`modelport pack` writes a bundle" in message


@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "zip"])
def test_a_file_that_is_no_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    message = refusal(tmp_path / name, BundleError)
    assert "is not a bundle: expected a folder with a modelport.json, or a .zip of one" in message
    assert f"modelport pack {tmp_path / name}" in message


def test_neither_a_folder_nor_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.zip")
    assert "is neither a folder nor a regular file" in refusal(tmp_path / "b.zip", BundleError)


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(BundleError, match=r"cannot list .*: Permission denied"):
        locate(tmp_path)


def test_no_repository(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    archive = tiny.save_as(tmp_path / "b.zip").path
    for path in (tmp_path / "none", tmp_path / "empty", tiny.path, archive):
        with pytest.raises(NotFound, match=r"no model repository at .*expected a folder of NAME/VERSION/"):
            find_bundles(path)
    assert find_bundles(str(tmp_path / "repo")) == [tiny.path]
    assert find_bundles(tiny.path.parent) == [tiny.path], "one model of it"
