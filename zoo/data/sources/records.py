"""What every record format shares: where a record comes from, its media and boxes, the pairing with the text."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.data.sample import MEDIA_PLACEHOLDERS, PLACEHOLDER_PATTERN, Box, Medium, Message, Sample
from zoo.errors import ZooError


class RecordError(ZooError):
    """A record that makes no sample: ``problem`` is ``malformed`` or ``placeholders``, ``sample_id`` its name."""

    def __init__(self, message: str, problem: str = "malformed", sample_id: str = "") -> None:
        super().__init__(message)
        self.problem = problem
        self.sample_id = sample_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a record was read.

    ``where`` starts every message (``train.json: sample 17``), ``default_id`` stands in for a missing id. Relative
    media references are looked up under ``media_root`` and may not leave it. ``carried`` are the images that came along
    with the record in a tar shard; they replace look-ups on disk.
    """

    where: str
    default_id: str
    media_root: str
    carried: tuple[Medium, ...] = ()

    def error(self, text: str, problem: str = "malformed", sample_id: str = "") -> RecordError:
        named = f" (id {sample_id!r})" if sample_id else ""
        return RecordError(f"{self.where}{named}: {text}", problem, sample_id or self.default_id)

    def sample_id(self, record: Mapping[str, Any]) -> str:
        """The record's id as text; without one, the file's name and the record's index."""
        value = record.get("id")
        if value is None or value == "":
            return self.default_id
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.error(f"'id' is {described(value)}; use text or a whole number")
        return str(value)

    def media(self, kind: str, value: Any, key: str, sample_id: str) -> list[Medium]:
        """Media of a record's field: None, a reference, or a list of references (of frame lists, for videos).

        Images carried by a tar shard are matched by name where the names are in the shard, else by order.
        """
        references = [] if value is None else value if isinstance(value, list) else [value]
        if kind == "image" and self.carried:
            names = [os.path.basename(item) if isinstance(item, str) else "" for item in references]
            by_name = {os.path.basename(medium.name): medium for medium in self.carried}
            if names and all(name in by_name for name in names):
                return [by_name[name] for name in names]
            return list(self.carried)
        return [self._medium(kind, reference, key, sample_id) for reference in references]

    def _medium(self, kind: str, reference: Any, key: str, sample_id: str) -> Medium:
        if kind == "video" and isinstance(reference, list) and reference:
            frames = [self._path(frame, key, sample_id) for frame in reference]
            return Medium(kind="video", source=frames, name=f"{frames[0]} .. {frames[-1]} ({len(frames)} frames)")
        return Medium(kind=kind, source=self._path(reference, key, sample_id))

    def _path(self, reference: Any, key: str, sample_id: str) -> str:
        if not isinstance(reference, str):
            raise self.error(f"{key!r} holds {described(reference)}; use a path or list of paths", sample_id=sample_id)
        if not reference or "\0" in reference:
            raise self.error(f"{key!r} holds an empty path or one with a null byte", sample_id=sample_id)
        if reference.startswith("file://"):
            reference = reference.removeprefix("file://")
        elif re.match(r"(?:[a-z][a-z0-9+.-]*://|data:)", reference, re.IGNORECASE):
            shown = reference if len(reference) <= 80 else reference[:80] + "..."
            raise self.error(f"{key!r} is the address {shown!r}; download it and give a path", sample_id=sample_id)
        if os.path.isabs(reference):
            return reference
        # A lexical check: links inside the root may lead elsewhere on purpose, "../.." in a downloaded file may not.
        path = os.path.normpath(reference)
        if path == ".." or path.startswith(".." + os.sep):
            raise self.error(
                f"{key!r} {reference!r} leaves the media folder {self.media_root!r}; use a path inside it, an absolute "
                f"path, or another media root",
                sample_id=sample_id,
            )
        return os.path.join(self.media_root, path)


def read_boxes(value: Any, origin: Origin, sample_id: str) -> list[Box]:
    """Boxes given as ``[x0, y0, x1, y1]``, ``[x0, y0, x1, y1, medium]`` or ``{x0, y0, x1, y1, medium?}`` in pixels."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise origin.error(f"'boxes' is {described(value)}; use a list of [x0, y0, x1, y1]", sample_id=sample_id)
    boxes = []
    for entry in value:
        if isinstance(entry, Mapping):
            numbers = [entry.get(name) for name in ("x0", "y0", "x1", "y1")] + [entry.get("medium", 0)]
        else:
            numbers = [*entry, 0][:5] if isinstance(entry, list) and len(entry) in (4, 5) else [None]
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            raise origin.error(f"box {entry!r} is not [x0, y0, x1, y1] in pixels", sample_id=sample_id)
        x0, y0, x1, y1, medium = numbers
        boxes.append(Box(x0=float(x0), y0=float(y0), x1=float(x1), y1=float(y1), medium=int(medium)))
    return boxes


def assemble(
    messages: Sequence[Message],
    images: Sequence[Medium],
    videos: Sequence[Medium],
    boxes: Sequence[Box],
    *,
    origin: Origin,
    sample_id: str,
    info: Mapping[str, Any],
) -> Sample:
    """The validated sample: the n-th ``<image>`` of the text is the n-th image, the n-th ``<video>`` the n-th video."""
    marks = [mark for message in messages for mark in PLACEHOLDER_PATTERN.findall(message.content)]
    carried = {"image": images, "video": videos}
    for kind, placeholder in MEDIA_PLACEHOLDERS.items():
        num_marks, num_media = marks.count(placeholder), len(carried[kind])
        if num_marks != num_media:
            raise origin.error(
                f"the text has {num_marks} {placeholder} placeholder(s) but the record carries {num_media} {kind}(s); "
                f"write one {placeholder} in the text for each {kind}, in order",
                "placeholders",
                sample_id,
            )
    queues = {placeholder: iter(carried[kind]) for kind, placeholder in MEDIA_PLACEHOLDERS.items()}
    media = tuple(next(queues[mark]) for mark in marks if mark in queues)
    sample = Sample(
        id=sample_id,
        messages=tuple(messages),
        media=media,
        boxes=tuple(boxes),
        group=(media[0].name or media[0].source) if media else "",
        info=dict(info),
    )
    try:
        return sample.validate()
    except ZooError as error:
        problem = "placeholders" if marks.count("<box>") != len(boxes) else "malformed"
        raise RecordError(f"{origin.where}: {error}", problem, sample_id) from error


def described(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '...'}"
