"""One training or evaluation example, whatever file it came from: messages, media, boxes.

Text refers to media by placeholder: the n-th ``<image>`` or ``<video>`` of the conversation stands for the n-th entry
of ``media``, the n-th ``<box>`` for the n-th entry of ``boxes``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.errors import ZooError

MEDIA_PLACEHOLDERS = {"image": "<image>", "video": "<video>"}
BOX_PLACEHOLDER = "<box>"
PLACEHOLDER_PATTERN = re.compile(r"<image>|<video>|<box>")

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Medium:
    """An image or a video, not yet decoded.

    ``source`` is a path, the bytes of an image file, a ``PIL.Image.Image``, an array or tensor (height, width, 3) of
    uint8, a list of those (the frames of a video), or a function without arguments that returns one of them. ``name``
    identifies the medium in messages and in caches; it defaults to the path where there is one.
    """

    kind: Literal["image", "video"]
    source: Any
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A box in continuous pixels of the original image: 0 <= x0 <= x1 <= width, 0 <= y0 <= y1 <= height."""

    x0: float
    y0: float
    x1: float
    y1: float
    medium: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn. ``supervised`` only matters for the assistant: False keeps a turn as context without loss."""

    role: Role
    content: str
    supervised: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """``group`` is the cluster for statistics (the image or video that several items share); ``info`` is free."""

    id: str
    messages: tuple[Message, ...]
    media: tuple[Medium, ...] = ()
    boxes: tuple[Box, ...] = ()
    group: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    def validate(self) -> "Sample":
        """Return self, or raise ZooError when placeholders and media disagree or the roles make no conversation."""
        kinds, num_boxes = [], 0
        for message in self.messages:
            if message.role not in ("system", "user", "assistant"):
                raise ZooError(f"sample {self.id!r}: unknown role {message.role!r}; use system, user or assistant")
            for mark in PLACEHOLDER_PATTERN.findall(message.content):
                if mark == BOX_PLACEHOLDER:
                    num_boxes += 1
                else:
                    kinds.append(mark.strip("<>"))
        if not self.messages:
            raise ZooError(f"sample {self.id!r}: no messages; give at least one user turn")
        media_kinds = [medium.kind for medium in self.media]
        if kinds != media_kinds:
            raise ZooError(
                f"sample {self.id!r}: the text has {len(kinds)} media placeholders {kinds} but the sample carries "
                f"{len(media_kinds)} media {media_kinds}; put one <image> or <video> in the text for each, in order"
            )
        if num_boxes != len(self.boxes):
            raise ZooError(
                f"sample {self.id!r}: the text has {num_boxes} <box> placeholders but the sample carries "
                f"{len(self.boxes)} boxes; put one <box> in the text for each, in order"
            )
        for box in self.boxes:
            if not (0 <= box.x0 <= box.x1 and 0 <= box.y0 <= box.y1):
                raise ZooError(
                    f"sample {self.id!r}: {box} is not x0 <= x1, y0 <= y1 in pixels; give corners, not sizes"
                )
            if not 0 <= box.medium < len(self.media):
                raise ZooError(f"sample {self.id!r}: {box} refers to medium {box.medium} of {len(self.media)}")
        return self
