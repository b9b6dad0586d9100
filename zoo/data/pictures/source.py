"""Training samples from pictures and clips: captions, and one question a sample, made from a seed on demand."""

from collections.abc import Mapping, Sequence

from zoo.data.pictures.index import SPLITS, entries
from zoo.data.pictures.questions import (
    CAPTION_INSTRUCTIONS,
    EMOJI,
    MAKERS,
    PICTURE_ASSETS,
    VIDEO_CAPTION_INSTRUCTION,
    Asked,
    clip_medium,
    picture_medium,
)
from zoo.data.sample import Medium, Message, Sample
from zoo.data.scenes.draw import Draw
from zoo.errors import ZooError, nearest

# Spec prefix of these sources and of their tasks.
PICTURES = "pictures"
# The place of a name is part of every seed: append, never reorder.
KINDS = (*MAKERS, "caption", "video_caption")
STREAM = 7


class PictureSource:
    """Map-style: sample i is the same on every machine that has the assets.

    ``kind`` is one of ``KINDS`` or ``mixture``: of all kinds, or of those that ``weights`` names, in these shares.
    """

    def __init__(
        self,
        kind: str = "mixture",
        split: str = "train",
        num_samples: int = 1000,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if kind != "mixture" and kind not in KINDS:
            raise ZooError(f"pictures: unknown kind {kind!r}.{nearest(kind, ['mixture', *KINDS])}")
        if weights is not None and kind != "mixture":
            raise ZooError(f"pictures: kind {kind!r} takes no weights; use kind mixture")
        self.weights = dict(weights or dict.fromkeys(KINDS, 1.0)) if kind == "mixture" else {kind: 1.0}
        for name in self.weights:
            if name not in KINDS:
                raise ZooError(f"pictures: unknown kind {name!r} in weights.{nearest(name, KINDS)}")
        if min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise ZooError(f"pictures: weights {self.weights} need a positive sum and no negative share")
        self.split, self.num_samples, self.seed = split, num_samples, seed
        # A missing asset is said before a model is loaded, not at the first sample that needs it.
        for name, share in self.weights.items():
            if share:
                self._sample(name, 0)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_samples:
            raise IndexError(index)
        rest = Draw(STREAM, self.seed, SPLITS.index(self.split), index).uniform(0.0, sum(self.weights.values()))
        for name, share in self.weights.items():
            if rest < share:
                return self._sample(name, index)
            rest -= share
        return self._sample(next(name for name in reversed(self.weights) if self.weights[name] > 0), index)

    def _sample(self, kind: str, index: int) -> Sample:
        name = f"pictures/{self.split}/{kind}/{self.seed}/{index}"
        draw = stream(kind, self.split, self.seed, index)
        if kind in MAKERS:
            return asked_sample(name, MAKERS[kind](draw, self.split, name), answered=True)
        medium, question, caption = caption_turn(kind, draw, self.split)
        return conversation(name, medium, question, caption)


def stream(kind: str, split: str, seed: int, index: int) -> Draw:
    """Choices of sample or item ``index``: no two kinds, splits or seeds share any."""
    if split not in SPLITS:
        raise ZooError(f"pictures: unknown split {split!r}.{nearest(split, SPLITS)}")
    return Draw(STREAM, seed, SPLITS.index(split), 1 + KINDS.index(kind), index)


def caption_turn(kind: str, draw: Draw, split: str) -> tuple[Medium, str, str]:
    """A picture or clip, an instruction, and its caption."""
    if kind == "video_caption":
        entry = draw.choice(_all((EMOJI,), split))
        return clip_medium(entry), VIDEO_CAPTION_INSTRUCTION, entry.caption
    entry = draw.choice(_all(PICTURE_ASSETS, split))
    return picture_medium(entry), draw.choice(CAPTION_INSTRUCTIONS), entry.caption


def _all(assets: Sequence[str], split: str) -> list:
    found = [entry for asset in assets for entry in entries(asset, split)]
    if not found:
        raise ZooError(f"pictures: the {split} split of {', '.join(assets)} is empty; run: zoo assets get")
    return found


def asked_sample(name: str, asked: Asked, *, answered: bool) -> Sample:
    """A question as a sample, with its answer as the assistant's turn or without."""
    last = asked.answer if answered else ""
    answer_box = (asked.answer_box,) if answered and asked.answer_box is not None else ()
    return conversation(name, asked.medium, asked.text, last, boxes=(*asked.boxes, *answer_box))


def conversation(name: str, medium: Medium, question: str, answer: str = "", boxes: Sequence = ()) -> Sample:
    messages = [Message(role="user", content=f"<{medium.kind}>\n{question}")]
    if answer:
        messages.append(Message(role="assistant", content=answer))
    return Sample(id=name, messages=tuple(messages), media=(medium,), boxes=tuple(boxes), group=medium.name)
