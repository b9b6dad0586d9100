"""Decoding: a medium of a sample becomes RGB frames, or one line that says what is wrong with the file.

Everything goes through Pillow. EXIF orientation is ignored, as in the official code of the published methods
(``Image.open(path).convert("RGB")``): a photo stored lying on its side is seen lying on its side, and boxes annotated
on the stored pixels stay right.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.sample import Medium
from zoo.errors import ZooError

# Where Pillow refuses by default (twice the size it warns at): half a gigabyte of RGB.
MAX_IMAGE_PIXELS = 178_956_970
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ogv", ".ts")
)
FRAME_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
# What Pillow's decoders raise on broken files (its file-format plugins are not uniform).
_BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, TypeError)


def sample_frames(num_available: int, num_wanted: int) -> list[int]:
    """Indices of ``num_wanted`` frames spread evenly over ``num_available``, first and last included.

    The rule of Video-LLaVA, LLaVA-NeXT and others: ``numpy.linspace(0, num_available - 1, num_wanted)``, truncated. A
    single frame is the first one; a video with fewer frames than wanted repeats some, so the count is always met.

    Raises:
        ZooError: when either number is below 1.
    """
    if num_available < 1 or num_wanted < 1:
        raise ZooError(f"cannot choose {num_wanted} of {num_available} frames; both numbers must be at least 1")
    return np.linspace(0, num_available - 1, num_wanted, dtype=int).tolist()


def load_frames(
    medium: Medium, *, root: str | os.PathLike | None = None, sample_id: str = "", num_frames: int | None = None
) -> list[Image.Image]:
    """Decode a medium into RGB images: one for an image, several for a video.

    A video is a list of frames, an array or tensor (frames, height, width, 3) of uint8, a folder of frames (in natural
    order: ``frame_2`` before ``frame_10``), or a file that Pillow reads as several frames (GIF, WebP, APNG, TIFF).
    Alpha is dropped and 16-bit grey is reduced to its upper 8 bits.

    Args:
        medium: what to decode.
        root: folder that relative paths start from; a path that leads out of it is refused. Links inside the folder may
            point anywhere, since whoever set up the folder made them.
        sample_id: named in errors.
        num_frames: for videos, decode only this many, chosen by :func:`sample_frames`; None decodes all.

    Raises:
        ZooError: in one line with the sample and the file, when the medium is missing, broken, too large or empty.
    """
    where = _describe(medium, sample_id)
    source = _resolve(medium, root, where)
    if medium.kind == "image":
        with _explained(where):
            return [_decode(source, where)]
    frames = _list_frames(source, where, root)
    indices = range(len(frames)) if num_frames is None else sample_frames(len(frames), num_frames)
    decoded: dict[int, Image.Image] = {}
    for index in indices:
        if index not in decoded:
            frame_where = f"{where}, frame {index}"
            with _explained(frame_where):
                decoded[index] = frames.decode(index, frame_where)
    return [decoded[index] for index in indices]


def image_size(medium: Medium, *, root: str | os.PathLike | None = None, sample_id: str = "") -> tuple[int, int]:
    """(width, height) in pixels of an image, or of the first frame of a video, read from the header where there is one.

    Raises:
        ZooError: as :func:`load_frames`; broken pixel data behind a good header goes unnoticed.
    """
    where = _describe(medium, sample_id)
    source = _resolve(medium, root, where)
    if medium.kind == "video":
        source = _list_frames(source, where, root).first
    with _explained(where), _open(source, where) as image:
        return image.size


class _Frames:
    """The frames of a video, not yet decoded: separate sources, or one file with several frames."""

    def __init__(self, sources: list[Any], file: Any = None, num_frames: int = 0) -> None:
        self.sources, self.file, self.num_frames = sources, file, num_frames or len(sources)

    def __len__(self) -> int:
        return self.num_frames

    @property
    def first(self) -> Any:
        return self.sources[0] if self.file is None else self.file

    def decode(self, index: int, where: str) -> Image.Image:
        return _decode(self.sources[index], where) if self.file is None else _decode(self.file, where, frame=index)


def _list_frames(source: Any, where: str, root: str | os.PathLike | None) -> _Frames:
    if isinstance(source, Path) and source.is_dir():
        sources = sorted((path for path in source.iterdir() if path.suffix.lower() in FRAME_SUFFIXES), key=_natural)
        frames = _Frames(sources)
    elif isinstance(source, (list, tuple)):
        frames = _Frames(
            [
                _resolve(Medium(kind="image", source=entry), root, f"{where}, frame {i}")
                for i, entry in enumerate(source)
            ]
        )
    elif isinstance(source, (Path, bytes)):
        with _explained(where), _open(source, where) as image:
            frames = _Frames([], file=source, num_frames=getattr(image, "n_frames", 1))
    elif hasattr(source, "ndim") and source.ndim == 4:
        frames = _Frames(list(source))
    else:
        frames = _Frames([source])
    if not len(frames):
        raise ZooError(f"{where}: a video without frames; give at least one frame")
    return frames


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _describe(medium: Medium, sample_id: str) -> str:
    is_path = isinstance(medium.source, (str, os.PathLike))
    name = medium.name or (os.fspath(medium.source) if is_path else f"in memory ({type(medium.source).__name__})")
    return f"sample {sample_id!r}: {medium.kind} {name!r}" if sample_id else f"{medium.kind} {name!r}"


def _resolve(medium: Medium, root: str | os.PathLike | None, where: str) -> Any:
    """Call functions and turn path strings into existing paths; everything else stays as it is."""
    source = medium.source
    if callable(source):
        try:
            source = source()
        except OSError as error:
            raise ZooError(f"{where}: cannot be read ({_one_line(error)}); check the file it comes from") from error
    if not isinstance(source, (str, os.PathLike)):
        return source
    text = os.fspath(source)
    if not text or "\0" in text:
        raise ZooError(f"{where}: the path is empty or holds a null byte; give the path of a file")
    if text.startswith(("http://", "https://", "data:")):
        raise ZooError(f"{where}: addresses are not fetched; download the file and give its path")
    path = Path(text)
    if root is not None:
        folder = os.path.abspath(root)
        # Compared as text, so that a link inside the folder may lead to another disk while ../ may not leave it.
        path = Path(os.path.abspath(os.path.join(folder, text)))
        if os.path.commonpath([folder, path]) != folder:
            raise ZooError(f"{where}: the path leads out of the media folder {folder!r}; give a path inside it")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise ZooError(
            f"{where}: decoding of video files ({path.suffix}) is not included; extract the frames (for example with "
            "ffmpeg) and give the folder of frames or the list of them"
        )
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise ZooError(f"{where}: {error.strerror or error}; give the path of a readable file") from error
    if not exists:
        raise ZooError(f"{where}: no such file {str(path)!r}; check the path and the media folder")
    if is_folder and medium.kind == "image":
        raise ZooError(f"{where}: {str(path)!r} is a folder, not an image; give a file, or a video medium")
    return path


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except ZooError:
        raise
    except Image.DecompressionBombError as error:
        raise ZooError(f"{where}: too many pixels ({_one_line(error)}); scale the image down first") from error
    except Image.UnidentifiedImageError as error:
        raise ZooError(f"{where}: not an image that Pillow can read; convert it to PNG or JPEG, or drop it") from error
    except _BROKEN_FILE as error:
        raise ZooError(f"{where}: damaged or unreadable ({_one_line(error)}); fetch it again or drop it") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _open(source: Any, where: str) -> Iterator[Image.Image]:
    """An image whose header has been read and whose size is acceptable, its pixels not yet decoded."""
    if isinstance(source, Image.Image):
        _check_size(source.size, where)
        yield source
    elif isinstance(source, (Path, bytes)):
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            _check_size(image.size, where)
            yield image
    else:
        yield Image.fromarray(_as_array(source, where))


def _as_array(source: Any, where: str) -> np.ndarray:
    if hasattr(source, "detach"):
        source = source.detach().cpu()
    array = np.ascontiguousarray(source)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ZooError(
            f"{where}: expected an image, or an array (height, width, 3) of uint8, got {type(source).__name__} of "
            f"shape {array.shape} and type {array.dtype}"
        )
    _check_size((array.shape[1], array.shape[0]), where)
    return array


def _check_size(size: tuple[int, int], where: str) -> None:
    width, height = size
    if width * height > MAX_IMAGE_PIXELS:
        raise ZooError(
            f"{where}: {width} x {height} pixels is more than the limit of {MAX_IMAGE_PIXELS}; scale it down first"
        )
    if width * height == 0:
        raise ZooError(f"{where}: {width} x {height} pixels is empty; give an image with at least one pixel")


def _decode(source: Any, where: str, frame: int = 0) -> Image.Image:
    with _open(source, where) as image:
        if frame:
            image.seek(frame)
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            # Pillow's own conversion clips at 255 and turns almost every 16-bit image white.
            image = Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
        # convert() returns a copy, decoded and independent of the file, also where the mode is RGB already.
        return image.convert("RGB")
