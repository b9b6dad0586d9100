"""Decoding: a medium of a sample becomes RGB frames, or one line that says what is wrong with the file.

Images go through Pillow, video files through PyAV (``zoo.data.video_file``). EXIF orientation is ignored, as in the
official code of the published methods (``Image.open(path).convert("RGB")``): a photo stored lying on its side is seen
lying on its side, and boxes annotated on the stored pixels stay right.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.frames import FrameSampling
from zoo.data.sample import Medium
from zoo.data.video_file import frame_size, num_video_frames, read_frames
from zoo.errors import ZooError

# Where Pillow refuses by default (twice the size it warns at): half a gigabyte of RGB.
MAX_IMAGE_PIXELS = 178_956_970
# What a video file may give without a sampling: above it the method's rule is missing, and the memory is full.
MAX_FRAMES = 256
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ogv", ".ts")
)
FRAME_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
# What Pillow's decoders raise on broken files (its file-format plugins are not uniform).
_BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, TypeError)


def load_frames(
    medium: Medium,
    *,
    root: str | os.PathLike | None = None,
    sample_id: str = "",
    frames: FrameSampling | None = None,
) -> list[Image.Image]:
    """Decode a medium into RGB images: one for an image, several for a video.

    A video is a list of frames, an array or tensor (frames, height, width, 3) of uint8, a folder of frames (in natural
    order: ``frame_2`` before ``frame_10``), a file that Pillow reads as several frames (GIF, WebP, APNG, TIFF), or a
    video file or the bytes of one (``zoo.data.video_file``).
    Alpha is dropped and 16-bit grey is reduced to its upper 8 bits.

    Args:
        medium: what to decode.
        root: folder that relative paths start from; a path that leads out of it is refused. Links inside the folder may
            point anywhere, since whoever set up the folder made them.
        sample_id: named in errors.
        frames: for videos, which frames to decode; None decodes all, of a video file up to ``MAX_FRAMES``.

    Raises:
        ZooError: in one line with the sample and the file, when the medium is missing, broken, too large or empty.
    """
    where = _describe(medium, sample_id)
    source = _resolve(medium, root, where)
    if medium.kind == "image":
        with _explained(where):
            return [_decode(source, where)]
    if _is_video_file(source):
        return read_frames(source, partial(_indices, frames, where=where, limit=MAX_FRAMES), where=where)
    listed = _list_frames(source, where, root)
    indices = _indices(frames, len(listed), where=where)
    decoded: dict[int, Image.Image] = {}
    for index in indices:
        if index not in decoded:
            frame_where = f"{where}, frame {index}"
            with _explained(frame_where):
                decoded[index] = listed.decode(index, frame_where)
    return [decoded[index] for index in indices]


def count_frames(
    medium: Medium,
    *,
    root: str | os.PathLike | None = None,
    sample_id: str = "",
    frames: FrameSampling | None = None,
) -> int:
    """How many images :func:`load_frames` gives, without decoding them where that can be avoided.

    Raises:
        ZooError: as :func:`load_frames`; broken pixel data behind a good header goes unnoticed.
    """
    if medium.kind == "image":
        return 1
    where = _describe(medium, sample_id)
    source = _resolve(medium, root, where)
    is_file = _is_video_file(source)
    num_frames = num_video_frames(source, where=where) if is_file else len(_list_frames(source, where, root))
    return len(_indices(frames, num_frames, where=where, limit=MAX_FRAMES if is_file else None))


def _indices(frames: FrameSampling | None, num_available: int, *, where: str, limit: int | None = None) -> list[int]:
    if frames is not None:
        return frames.indices(num_available)
    if limit is not None and num_available > limit:
        raise ZooError(
            f"{where}: {num_available} frames, and the method takes all of a video's frames; set frames, for example "
            "frames.kind=linspace and frames.num_frames=8"
        )
    return list(range(num_available))


def _is_video_file(source: Any) -> bool:
    if not isinstance(source, bytes):
        return isinstance(source, Path) and source.suffix.lower() in VIDEO_SUFFIXES and not source.is_dir()
    try:
        Image.open(io.BytesIO(source)).close()
    except Image.UnidentifiedImageError:
        return True
    except Image.DecompressionBombError:
        return False
    return False


def image_size(medium: Medium, *, root: str | os.PathLike | None = None, sample_id: str = "") -> tuple[int, int]:
    """(width, height) in pixels of an image, or of the first frame of a video, read from the header where there is one.

    Raises:
        ZooError: as :func:`load_frames`; broken pixel data behind a good header goes unnoticed.
    """
    where = _describe(medium, sample_id)
    source = _resolve(medium, root, where)
    if medium.kind == "video":
        if _is_video_file(source):
            return frame_size(source, where=where)
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
    if path.suffix.lower() in VIDEO_SUFFIXES and medium.kind == "image":
        raise ZooError(f"{where}: {str(path)!r} is a video; give it as a video medium, or the folder of frames")
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
