"""A conversation format: which strings surround a turn, what ends an answer, where BOS and media stand.

A template renders messages into segments and knows nothing of tokenizers; ``zoo.data.encode`` turns segments into ids
and labels. Every answer is followed by its end of turn (EOS, a mark such as ``<|im_end|>``, or a stop string), and the
end belongs to the supervised span: a model that never sees it supervised never stops. The published formats are in
``zoo.data.templates``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zoo.data.sample import BOX_PLACEHOLDER, MEDIA_PLACEHOLDERS, Message
from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A piece of a rendered conversation: text, or a BOS or EOS token when ``token`` is set (``text`` is then empty).

    ``from_template`` tells the template's own strings, in which the tokenizer's special tokens count, from what users
    typed, in which they must not. ``first_box`` is the index of the sample's box that the first ``<box>`` in ``text``
    stands for. ``turn`` numbers the turns from 0, -1 outside of them; ``is_answer``: the turn is the assistant's, and
    this is its answer with what ends it.
    """

    text: str = ""
    supervised: bool = False
    token: Literal["", "bos", "eos"] = ""
    from_template: bool = True
    first_box: int = 0
    turn: int = -1
    is_answer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A conversation format.

    Layout: BOS, ``system_open`` system ``system_close`` (left out when the system text is empty), ``start``, then for
    each turn ``user_open`` text ``user_close`` and ``assistant_open`` ``answer_join`` answer ``end`` EOS ``after_end``,
    then ``finish``. A generation prompt stops after ``assistant_open``, so that the blank of ``answer_join`` is the
    model's to write, as part of its first word: ``answer_join``, the answer, ``end`` and EOS are the supervised span.
    An empty answer has no ``answer_join``.

    ``system``: default system text; a system message of the sample replaces it.
    ``system_in_first_user_turn``: the system block stands inside the first user turn, after ``user_open`` (Llama-2).
    ``bos``: put BOS at the beginning where the tokenizer has one (``bos_is_eos``: EOS in its place);
    ``bos_every_round``: also before each further user turn (Llama-2: ``</s><s>[INST]``).
    ``marks``: strings that are single tokens where the tokenizer's vocabulary holds them, and text elsewhere.
    ``media``: ``front`` moves the only placeholder of a user turn before its stripped text, with ``media_join`` between
    (a turn with several keeps them where they are, since the text refers to their places); ``inline`` keeps the text as
    it is; ``only`` drops the rest of the user's text (caption training); ``before_bos`` puts all media of the
    conversation before everything else (BLIP-2), ``only_before_bos`` those without the rest of the user's text;
    ``before_turn`` puts the only placeholder of a user turn before ``user_open`` (OpenFlamingo).
    ``back`` puts it behind the text (Video-ChatGPT's questions).
    ``image``, ``video``: how a medium is written, ``{media}`` being its soft tokens: ``<im_start>{media}<im_end>``.
    An opening that the one before has just ended with is left out: neighbours share the mark (IDEFICS).
    ``inference``: the form of generation prompts where it differs from the training form.
    """

    name: str
    system: str = ""
    system_open: str = ""
    system_close: str = ""
    system_in_first_user_turn: bool = False
    start: str = ""
    user_open: str = ""
    user_close: str = ""
    assistant_open: str = ""
    answer_join: str = ""
    end: str = ""
    eos: bool = False
    after_end: str = ""
    finish: str = ""
    bos: bool = True
    bos_is_eos: bool = False
    bos_every_round: bool = False
    marks: tuple[str, ...] = ()
    media: Literal["front", "inline", "only", "before_bos", "only_before_bos", "before_turn", "back"] = "front"
    media_join: str = "\n"
    image: str = "{media}"
    video: str = "{media}"
    inference: "Template | None" = None

    def render(
        self, messages: Sequence[Message], *, generation: bool = False, sample_id: str = ""
    ) -> tuple[Segment, ...]:
        """Segments in order; placeholders are still text in them.

        ``generation`` drops a trailing assistant turn and ends with ``assistant_open``, in the inference form.
        Raises ZooError when turns do not alternate from user to assistant after an optional system message.
        """
        if generation and self.inference is not None:
            return self.inference.render(messages, generation=True, sample_id=sample_id)
        if generation and messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        _check_order(messages, generation, sample_id)
        return tuple(segment for segment in self._segments(messages, generation) if segment.text or segment.token)

    def _segments(self, messages: Sequence[Message], generation: bool) -> Iterator[Segment]:
        if self.media in ("before_bos", "only_before_bos"):
            yield Segment(text="".join(mark for m in messages for mark in _MEDIA_PATTERN.findall(m.content)))
            messages = [replace(m, content=_MEDIA_PATTERN.sub("", m.content)) for m in messages]
        if self.bos:
            yield Segment(token="eos" if self.bos_is_eos else "bos")
        has_system = messages[0].role == "system"
        system, turns = (messages[0].content, messages[1:]) if has_system else (self.system, messages)
        num_boxes = system.count(BOX_PLACEHOLDER)
        system_block: tuple[Segment, ...] = ()
        if system:
            system_block = (
                Segment(text=self.system_open),
                Segment(text=system, from_template=not has_system),
                Segment(text=self.system_close),
            )
        if not self.system_in_first_user_turn:
            yield from system_block
        yield Segment(text=self.start)
        for index, turn in enumerate(turns):
            if turn.role == "user":
                if index and self.bos_every_round:
                    yield Segment(token="bos")
                text = _place_media(turn.content, self.media, self.media_join)
                if self.media == "before_turn" and len(marks := _MEDIA_PATTERN.findall(text)) == 1:
                    yield Segment(text=marks[0])
                    text = text.removeprefix(marks[0])
                yield Segment(text=self.user_open)
                if not index and self.system_in_first_user_turn:
                    yield from system_block
                yield Segment(text=text, from_template=False, first_box=num_boxes, turn=index)
                yield Segment(text=self.user_close)
            else:
                yield Segment(text=self.assistant_open)
                answer = {"supervised": turn.supervised, "turn": index, "is_answer": True}
                yield Segment(text=self.answer_join if turn.content else "", **answer)
                yield Segment(text=turn.content, from_template=False, first_box=num_boxes, **answer)
                yield Segment(text=self.end, **answer)
                if self.eos:
                    yield Segment(token="eos", **answer)
                yield Segment(text=self.after_end)
            num_boxes += turn.content.count(BOX_PLACEHOLDER)
        yield Segment(text=self.assistant_open if generation else self.finish)


def render_text(segments: Sequence[Segment], *, bos: str = "<s>", eos: str = "</s>") -> str:
    """The rendered conversation as one string, for people: BOS and EOS written out, placeholders unexpanded."""
    written = {"": "", "bos": bos, "eos": eos}
    return "".join(segment.text + written[segment.token] for segment in segments)


def _check_order(messages: Sequence[Message], generation: bool, sample_id: str) -> None:
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    expected = [("user", "assistant")[index % 2] for index in range(len(turns))]
    if not turns or turns != expected:
        raise ZooError(
            f"sample {sample_id!r}: roles {roles} make no conversation; give at most one system message, first, then "
            "user and assistant by turns, user first"
        )
    if generation and turns[-1] != "user":
        raise ZooError(f"sample {sample_id!r}: a generation prompt ends with a user turn, not with {turns[-1]!r}")


def _place_media(content: str, placement: str, join: str) -> str:
    if placement == "inline":
        return content
    if placement == "before_bos":
        return content.strip()
    marks = _MEDIA_PATTERN.findall(content)
    if placement == "only_before_bos":
        return ""
    if placement == "only":
        return "".join(marks)
    if len(marks) != 1:
        return content
    if placement == "back":
        return f"{content.replace(marks[0], '').strip()}{join}{marks[0]}".strip()
    return f"{marks[0]}{join}{content.replace(marks[0], '').strip()}".strip()


_MEDIA_PATTERN = re.compile("|".join(MEDIA_PLACEHOLDERS.values()))
