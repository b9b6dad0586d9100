"""Chat messages: ``{id?, messages: [{role, content}], images?, videos?, boxes?}``.

``content`` is text, or a list of parts as in Hugging Face chat templates. Media stand in the parts themselves or in the
lists of the record, marked by ``<image>`` and ``<video>`` in the text (as LLaMA-Factory and ms-swift write them).
"""

from collections.abc import Mapping
from typing import Any

from zoo.data.sample import BOX_PLACEHOLDER, MEDIA_PLACEHOLDERS, PLACEHOLDER_PATTERN, Message, Sample
from zoo.data.sources.records import Origin, assemble, described, read_boxes
from zoo.errors import nearest

ROLES = ("system", "user", "assistant")
_FIELDS = {"id", "messages", "images", "videos", "boxes"}
_PARTS = ("text", "image", "video", "box")


def from_chat(record: Mapping[str, Any], origin: Origin) -> Sample:
    """One sample of a chat record.

    Parts of a content list: ``{type: text, text}``, ``{type: image, image | path | url}``, ``{type: video, video |
    path | url}`` (``video`` may list frames) and ``{type: box, box: [x0, y0, x1, y1]}``. A media part without a
    reference, and a mark in the text, take the next entry of ``images``, ``videos`` or ``boxes``. Media parts that open
    a turn end their line, as in LLaVA's chat template; other parts are joined as they stand. ``loss: false`` on a
    message keeps it as context. Further keys go to ``Sample.info``.

    Raises:
        RecordError: a missing or mistyped field, an unknown role or part, or placeholders that do not match the media.
    """
    sample_id = origin.sample_id(record)
    turns = record.get("messages")
    if not isinstance(turns, list) or not turns:
        raise origin.error(f"'messages' is {described(turns)}; use a list of messages", sample_id=sample_id)
    references: dict[str, list[Any]] = {mark: [] for mark in (*MEDIA_PLACEHOLDERS.values(), BOX_PLACEHOLDER)}
    messages = [_message(turn, position, references, origin, sample_id) for position, turn in enumerate(turns)]
    images, videos, boxes = (
        _filled(references[mark], record.get(key), key, mark, origin, sample_id)
        for mark, key in (("<image>", "images"), ("<video>", "videos"), (BOX_PLACEHOLDER, "boxes"))
    )
    return assemble(
        messages,
        origin.media("image", images, "images", sample_id),
        origin.media("video", videos, "videos", sample_id),
        read_boxes(boxes, origin, sample_id),
        origin=origin,
        sample_id=sample_id,
        info={key: value for key, value in record.items() if key not in _FIELDS},
    )


def _message(turn: Any, position: int, references: dict[str, list[Any]], origin: Origin, sample_id: str) -> Message:
    if not isinstance(turn, Mapping):
        raise origin.error(f"message {position} is {described(turn)}; use {{role, content}}", sample_id=sample_id)
    role = turn.get("role")
    if role not in ROLES:
        hint = nearest(str(role), list(ROLES))
        raise origin.error(f"message {position} has the role {described(role)}.{hint}", sample_id=sample_id)
    supervised = turn.get("loss", True)
    if not isinstance(supervised, bool):
        raise origin.error(
            f"'loss' of message {position} is {described(supervised)}; use true or false", sample_id=sample_id
        )
    content = turn.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise origin.error(
            f"'content' of message {position} is {described(content)}; use text or a list of parts", sample_id=sample_id
        )
    text = "".join(_part(part, position, references, origin, sample_id) for part in parts)
    if parts and isinstance(content, list):
        text = _leading_media_on_lines(parts, text)
    return Message(role=role, content=text, supervised=supervised)


def _part(part: Any, position: int, references: dict[str, list[Any]], origin: Origin, sample_id: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in _PARTS:
        hint = nearest(str(kind), list(_PARTS))
        raise origin.error(f"message {position} has an unknown part {described(part)}.{hint}", sample_id=sample_id)
    if kind == "text":
        text = part.get("text")
        if not isinstance(text, str):
            raise origin.error(f"'text' of message {position} is {described(text)}; use text", sample_id=sample_id)
        for mark in PLACEHOLDER_PATTERN.findall(text):
            references[mark].append(None)
        return text
    found = [part[key] for key in (kind, "path", "url") if part.get(key) is not None]
    mark = f"<{kind}>"
    references[mark].append(found[0] if found else None)
    return mark


def _leading_media_on_lines(parts: list[Any], text: str) -> str:
    num_leading = 0
    while num_leading < len(parts) and parts[num_leading]["type"] in MEDIA_PLACEHOLDERS:
        num_leading += 1
    marks = [MEDIA_PLACEHOLDERS[part["type"]] for part in parts[:num_leading]]
    rest = text.removeprefix("".join(marks))
    return "\n".join([*marks, rest] if rest else marks)


def _filled(
    references: list[Any], listed: Any, key: str, mark: str, origin: Origin, sample_id: str
) -> list[Any] | None:
    """References in the order of the text, open ones filled from the record's own list; None where there is neither."""
    if listed is not None and not isinstance(listed, list):
        raise origin.error(f"{key!r} is {described(listed)}; use a list", sample_id=sample_id)
    num_open = sum(reference is None for reference in references)
    listed = listed or []
    if not listed and num_open == len(references):
        return None
    if num_open != len(listed):
        raise origin.error(
            f"the text has {num_open} {mark} placeholder(s) without a reference of their own but {key!r} lists "
            f"{len(listed)}; write one {mark} in the text for each, in order",
            "placeholders",
            sample_id,
        )
    rest = iter(listed)
    return [next(rest) if reference is None else reference for reference in references]
