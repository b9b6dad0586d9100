"""The LLaVA record: ``{id?, image?, video?, boxes?, conversations: [{from: human | gpt | system, value}]}``."""

from collections.abc import Mapping
from typing import Any

from zoo.data.sample import Message, Role, Sample
from zoo.data.sources.records import Origin, assemble, described, read_boxes
from zoo.errors import nearest

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_FIELDS = {"id", "image", "video", "boxes", "conversations"}


def from_llava(record: Mapping[str, Any], origin: Origin) -> Sample:
    """One sample of a LLaVA record; ``image`` and ``video`` hold a path or a list of paths (a video may list frames).

    As in LLaVA's loader (``preprocess_multimodal`` of llava/train/train.py), the placeholder of a turn that has exactly
    one moves to its front as ``<image>\\n``; unlike there, several placeholders of a turn keep their places instead of
    collapsing into one. Records of LLaVA-NeXT-Video that mark a video with ``<image>`` are read as ``<video>``. Further
    keys go to ``Sample.info``.

    Raises:
        RecordError: a missing or mistyped field, an unknown ``from``, or placeholders that do not match the media.
    """
    sample_id = origin.sample_id(record)
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise origin.error(f"'conversations' is {described(turns)}; use a list of turns", sample_id=sample_id)
    images = origin.media("image", record.get("image"), "image", sample_id)
    videos = origin.media("video", record.get("video"), "video", sample_id)
    texts = [_text(turn, position, origin, sample_id) for position, turn in enumerate(turns)]
    num_image_marks = sum(text.count("<image>") for text in texts)
    if videos and not images and num_image_marks == len(videos) and not any("<video>" in text for text in texts):
        texts = [text.replace("<image>", "<video>") for text in texts]
    messages = []
    for position, (turn, text) in enumerate(zip(turns, texts)):
        sender = turn.get("from")
        if not isinstance(sender, str) or sender not in ROLES:
            hint = nearest(str(sender), list(ROLES))
            raise origin.error(f"turn {position} is 'from' {described(sender)}.{hint}", sample_id=sample_id)
        messages.append(Message(role=ROLES[sender], content=_placeholder_first(text)))
    return assemble(
        messages,
        images,
        videos,
        read_boxes(record.get("boxes"), origin, sample_id),
        origin=origin,
        sample_id=sample_id,
        info={key: value for key, value in record.items() if key not in _FIELDS},
    )


def _text(turn: Any, position: int, origin: Origin, sample_id: str) -> str:
    if not isinstance(turn, Mapping):
        raise origin.error(f"turn {position} is {described(turn)}; use {{from, value}}", sample_id=sample_id)
    text = turn.get("value")
    if not isinstance(text, str):
        raise origin.error(f"'value' of turn {position} is {described(text)}; use text", sample_id=sample_id)
    return text


def _placeholder_first(text: str) -> str:
    for mark, other in (("<image>", "<video>"), ("<video>", "<image>")):
        if text.count(mark) == 1 and other not in text:
            rest = text.replace(mark, "").strip()
            return f"{mark}\n{rest}" if rest else mark
    return text
