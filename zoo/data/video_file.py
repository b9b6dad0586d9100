"""Frames of video files (MP4, WebM, AVI, ...), decoded by PyAV, which is optional: ``pip install av``."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from zoo.errors import ZooError

if TYPE_CHECKING:
    import av

# Headers may count a few frames that an edit list hides; a file with fewer than this part of them was cut off.
_LEAST_PART = 0.9


def read_frames(source: Path | bytes, choose: Callable[[int], list[int]], *, where: str) -> list[Image.Image]:
    """The chosen frames of a file's first video stream, as RGB images in the order of the indices.

    Frames are counted in the order of presentation. The rotation that phones note down is ignored, as EXIF orientation
    is. Only chosen frames are converted and kept. Where the header does not say how many frames there are, or is wrong,
    the file is decoded a second time.

    Args:
        source: a path, or the bytes of the file.
        choose: number of frames -> indices, possibly repeated.
        where: begins each message.

    Raises:
        ZooError: PyAV is missing, or the file is no video, damaged, cut off or without frames.
    """
    with _opened(source, where) as (_, stream):
        promised = stream.frames
    num_frames, frames = _decode(source, set(choose(promised)) if promised else set(), where)
    if not num_frames:
        raise ZooError(f"{where}: a video without frames; give at least one frame")
    if num_frames < _LEAST_PART * promised:
        raise ZooError(
            f"{where}: only {num_frames} of the {promised} frames that its header counts are there; fetch it again or "
            "drop it"
        )
    indices = choose(num_frames)
    if not frames.keys() >= set(indices):
        _, frames = _decode(source, set(indices), where)
    return [frames[index] for index in indices]


def num_video_frames(source: Path | bytes, *, where: str) -> int:
    """Number of frames by the header, by decoding where it has none. Raises ZooError as :func:`read_frames`."""
    with _opened(source, where) as (_, stream):
        promised = stream.frames
    num_frames = promised or _decode(source, set(), where)[0]
    if not num_frames:
        raise ZooError(f"{where}: a video without frames; give at least one frame")
    return num_frames


def frame_size(source: Path | bytes, *, where: str) -> tuple[int, int]:
    """(width, height) in pixels, from the header. Raises ZooError as :func:`read_frames`."""
    with _opened(source, where) as (_, stream):
        return stream.codec_context.width, stream.codec_context.height


def frame_rate(source: Path | bytes, *, where: str) -> float:
    """Frames per second, by the header. Raises ZooError as :func:`read_frames`, and where the header does not say."""
    with _opened(source, where) as (_, stream):
        rate = stream.average_rate
    if not rate:
        raise ZooError(f"{where}: the header names no frame rate; convert the file, or give its frames")
    return float(rate)


def _decode(source: Path | bytes, wanted: set[int], where: str) -> tuple[int, dict[int, Image.Image]]:
    """How many frames there are, and those wanted."""
    number, frames = 0, {}
    with _opened(source, where) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if number in wanted:
                frames[number] = frame.to_image().convert("RGB")
            number += 1
    return number, frames


@contextmanager
def _opened(source: Path | bytes, where: str) -> Iterator[tuple["av.container.InputContainer", Any]]:
    try:
        import av
    except ImportError:
        raise ZooError(
            f"{where}: video files are decoded by PyAV, which is not installed; run pip install av, or give the folder "
            "of frames or the list of them"
        ) from None
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            if not container.streams.video:
                raise ZooError(f"{where}: the file has no video stream; give a video, or fetch it again")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        reason = " ".join(str(error).split())
        raise ZooError(f"{where}: damaged or unreadable ({reason}); fetch it again or drop it") from error
