"""The folder of a benchmark: where its files are expected, which are missing, and its images and videos."""

from collections.abc import Mapping
from pathlib import Path

from zoo.data.media import FRAME_SUFFIXES, VIDEO_SUFFIXES
from zoo.data.sample import Medium
from zoo.errors import ZooError


class Folder:
    """One split of a benchmark on the disk. Images and videos lie in ``media_root`` where it is given."""

    def __init__(
        self, name: str, root: str | Path, split: str, places: Mapping[str, str], media_root: str | Path | None = None
    ) -> None:
        self.name, self.root, self.split, self.places = name, Path(root), split, places
        self.media_root = Path(media_root) if media_root else None
        self._media: dict[tuple[str, str], Medium] = {}
        self._listed: dict[Path, dict[str, Path]] = {}

    def check(self) -> None:
        """Raises ZooError with everything that is missing and everything that is expected."""
        if not self.root.is_dir():
            raise ZooError(f"{self.name}: {self.root} is not a folder; expected is one with {self.expected()}")
        missing = [
            f"{role} ({place.replace('|', ' or ')})"
            for role, place in self.places.items()
            if not (self.media_root and place.endswith("/")) and self._find(role) is None
        ]
        if missing:
            raise ZooError(
                f"{self.name}: {self.root} lacks {', '.join(missing)}; expected there for split {self.split}: "
                f"{self.expected()} (images and videos may lie elsewhere: --media-root)"
            )

    def expected(self) -> str:
        """Every role with its place: ``questions val.json, images val2014/ or images/``."""
        return ", ".join(f"{role} {place.replace('|', ' or ')}" for role, place in self.places.items())

    def path(self, role: str) -> Path:
        """Where the file or folder of a role is; ``check`` has found it."""
        found = self._find(role)
        if found is None:
            raise ZooError(f"{self.name}: {self.root} lacks {role} ({self.places[role]}); put it there")
        return found

    def _find(self, role: str) -> Path | None:
        for place in self.places[role].split("|"):
            path = self.root / place
            if path.is_dir() if place.endswith("/") else path.is_file():
                return path
        return None

    def _media_folder(self, role: str) -> Path:
        return self.media_root or self.path(role)

    def image(self, name: str, where: str, role: str = "images") -> Medium:
        """The image of this name in the folder of ``role``. Raises ZooError where it is not there."""
        if (role, name) not in self._media:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ZooError(f"{where}: image {name!r} lies outside of its folder; use names below it")
            folder = self._media_folder(role)
            # A common root may hold the folders that the files were published in.
            places = [folder / place.strip("/") / name for place in ("", *self.places[role].split("|"))]
            path = next((path for path in places if path.is_file()), None)
            if path is None:
                raise ZooError(f"{where}: image {places[0]} is missing; check {folder} or give --media-root")
            self._media[role, name] = Medium(kind="image", source=str(path), name=name)
        return self._media[role, name]

    def video(self, names: tuple[str, ...], where: str, role: str = "videos") -> Medium:
        """A video file or a folder of frames by the first of ``names`` that is there, with or without its suffix."""
        root = self._media_folder(role)
        for name in names:
            folder, stem = root / Path(name).parent, Path(name).name
            listed = self._list(folder)
            if path := listed.get(stem) or listed.get(Path(stem).stem if Path(stem).suffix in VIDEO_SUFFIXES else ""):
                return Medium(kind="video", source=str(path), name=name)
        raise ZooError(f"{where}: no video {names[0]!r} in {root}; put a file or a folder of frames there")

    def _list(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            found: dict[str, Path] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_dir():
                    found[path.name] = path
                elif path.suffix.lower() in VIDEO_SUFFIXES | FRAME_SUFFIXES:
                    found.setdefault(path.stem, path)
            self._listed[folder] = found
        return self._listed[folder]
