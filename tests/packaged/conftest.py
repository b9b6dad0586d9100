"""The pictures' assets, converted from tiny packages by the real converters; registries on this machine."""

import pytest
from packages import picture_assets
from registries import Registries

from zoo.data.pictures.index import entries
from zoo.packaged import get as getting
from zoo.packaged.cache import DOWNLOADS


@pytest.fixture(scope="session")
def tiny_assets():
    return picture_assets()


@pytest.fixture
def catalogue(tiny_assets, monkeypatch):
    """The tiny assets in place of the real ones."""
    found = {name: asset for name, (asset, _) in tiny_assets.items()}
    for module in ("zoo.packaged.cache", "zoo.packaged.get", "zoo.packaged"):
        monkeypatch.setattr(f"{module}.CATALOGUE", found)
    return found


@pytest.fixture(scope="session")
def converted(tiny_assets, tmp_path_factory):
    """A cache folder with all of them."""
    folder = tmp_path_factory.mktemp("assets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_ASSETS", str(folder))
        for module in ("zoo.packaged.cache", "zoo.packaged.get", "zoo.packaged"):
            patch.setattr(f"{module}.CATALOGUE", {name: asset for name, (asset, _) in tiny_assets.items()})
        (folder / DOWNLOADS).mkdir()
        for name, (asset, contents) in tiny_assets.items():
            for package, content in zip(asset.packages, contents):
                (folder / DOWNLOADS / package.file).write_bytes(content)
            getting.get(name)
    return folder


@pytest.fixture
def pictures(converted, catalogue, monkeypatch):
    """The converted assets, seen by what reads them."""
    monkeypatch.setenv("ZOO_ASSETS", str(converted))
    entries.cache_clear()
    yield converted
    entries.cache_clear()


@pytest.fixture
def registries(tmp_path, monkeypatch):
    """Local registries that the clients ask, and an empty cache folder."""
    server = Registries(tmp_path / "registries")
    for name, value in {**server.environment, "ZOO_ASSETS": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    yield server
    server.shutdown()
    server.server_close()
