"""Conversation formats, declared as data: which strings surround a turn, what ends an answer, where BOS stands.

A template renders messages into segments and knows nothing of tokenizers; ``zoo.data.encode`` turns segments into ids
and labels. Every answer is followed by its end of turn (EOS, a mark such as ``<|im_end|>``, or a stop string), and the
end belongs to the supervised span: a model that never sees it supervised never stops.

Sources: LLaVA ``llava/conversation.py`` and ``llava/train/train.py``, Qwen's ChatML (``chatml``), OpenFlamingo
``open_flamingo/train/data.py`` and ``open_flamingo/eval/eval_model.py``, Otter ``pipeline/mimicit_utils``,
transformers' ``processing_idefics.py``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zoo.data.sample import BOX_PLACEHOLDER, MEDIA_PLACEHOLDERS, Message
from zoo.errors import ZooError, nearest


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

_POLITE_TO_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
_POLITE_TO_USER = _POLITE_TO_HUMAN.replace("human", "user")
_CHATML_MARKS = ("<|im_start|>", "<|im_end|>")


def _vicuna(name: str, system: str) -> Template:
    return Template(
        name=name,
        system=system,
        system_close=" ",
        user_open="USER: ",
        user_close=" ",
        assistant_open="ASSISTANT:",
        answer_join=" ",
        eos=True,
    )


def _instruct(name: str, **fields: object) -> Template:
    return Template(
        name=name,
        system_open="<<SYS>>\n",
        system_close="\n<</SYS>>\n\n",
        system_in_first_user_turn=True,
        user_open="[INST] ",
        user_close=" [/INST]",
        answer_join=" ",
        end=" ",
        eos=True,
        **fields,
    )


def _chatml(name: str, system: str, *, newline: str, **fields: object) -> Template:
    return Template(
        name=name,
        system=system,
        system_open="<|im_start|>system\n",
        system_close=f"<|im_end|>{newline}",
        user_open="<|im_start|>user\n",
        user_close=f"<|im_end|>{newline}",
        assistant_open="<|im_start|>assistant\n",
        end="<|im_end|>",
        after_end=newline,
        marks=_CHATML_MARKS,
        **fields,
    )


def _video_chatgpt(system: str, **fields: object) -> Template:
    form = "<vid_start>{media}<vid_end>"
    return replace(_vicuna("video_chatgpt", system), image=form, video=form, **fields)


def _video_llama(**fields: object) -> Template:
    return Template(
        name="video_llama",
        user_open="Human: ",
        assistant_open="Assistant:",
        answer_join=" ",
        media_join="",
        image="<Image>{media}</Image> ",
        video="<Video>{media}</Video> ",
        **fields,
    )


_VIDEO_LLAMA_INFERENCE = _video_llama(
    system="You are able to understand the visual content that the user provides. Follow the instructions carefully "
    "and explain your answers in detail.",
    start="###",
    user_close="###",
    end="###",
)
_IMAGE_START_END = "<im_start>{media}<im_end>"
_OVERVIEW = f"The {_IMAGE_START_END} provides an overview of the picture."
_KOSMOS_2_IMAGE = "<image>{media}</image>"

# Cross-attention leaves no soft tokens in the prompt: {media} is where the medium begins, at the token behind it.
_FLAMINGO_IMAGE = "{media}<image>"
_IDEFICS_IMAGE = "<fake_token_around_image>{media}<image><fake_token_around_image>"


def _flamingo(name: str, **fields: Any) -> Template:
    form = {"media": "before_turn", "media_join": "", "image": _FLAMINGO_IMAGE, "video": _FLAMINGO_IMAGE} | fields
    return Template(name=name, end="<|endofchunk|>", **form)


def _idefics(name: str, **fields: str) -> Template:
    return Template(
        name=name,
        user_open="User:",
        assistant_open="Assistant:",
        answer_join=" ",
        media_join="",
        image=_IDEFICS_IMAGE,
        video=_IDEFICS_IMAGE,
        **fields,
    )


def _minigpt_4(**fields: object) -> Template:
    return Template(
        name="minigpt_4",
        start="###",
        user_open="Human: ",
        assistant_open="Assistant: ",
        answer_join=" ",
        end="###",
        media_join=" ",
        image="<Img>{media}</Img>",
        video="<Img>{media}</Img>",
        **fields,
    )


# The first release trains on "### Human: q\n### Assistant: a\n### " and asks with "###Human: q###Assistant:".
# Deviation from the first release: it supervised the "### Assistant: " in front of each answer as well; here, as in
# every template, the answer and its end of turn ("\n###", whose "###" opens the next turn) are supervised.
_LLAVA_V0 = Template(
    name="llava_v0",
    system=_POLITE_TO_HUMAN,
    system_close="\n\n",
    start="###",
    user_open=" Human: ",
    user_close="\n###",
    assistant_open=" Assistant:",
    answer_join=" ",
    end="\n###",
    finish=" ",
    inference=Template(
        name="llava_v0",
        system=_POLITE_TO_HUMAN,
        start="###",
        user_open="Human: ",
        user_close="###",
        assistant_open="Assistant:",
        answer_join=" ",
        end="###",
    ),
)

_ALL = (
    # Stage 1 of LLaVA: the image, the caption, a newline. The newline is the end of turn.
    Template(name="plain", end="\n", media="only"),
    _LLAVA_V0,
    # The training and the default inference wording of LLaVA-1.5 differ ("user", "human"), as its authors intend.
    _vicuna("vicuna_v1", _POLITE_TO_USER),
    _vicuna("llava_v1", _POLITE_TO_HUMAN),
    _instruct(
        "llama_2",
        system="You are a helpful language and vision assistant. You are able to understand the visual content that "
        "the user provides, and assist the user with a variety of tasks using natural language.",
        bos_every_round=True,
    ),
    _instruct("mistral_instruct"),
    _chatml("chatml", "You are a helpful assistant.", newline="\n", media="inline"),
    # LLaVA-1.6-34B and LLaVA-MPT: no newline after <|im_end|>, and no BOS (neither tokenizer puts one).
    _chatml("chatml_direct", "Answer the questions.", newline="", bos=False),
    _chatml(
        "mpt",
        "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.",
        newline="",
        bos=False,
    ),
    replace(_vicuna("shikra", _POLITE_TO_USER), media="inline", image=_IMAGE_START_END, video=_IMAGE_START_END),
    # GPT4RoI asks in the form that it was trained in, and begins with a sentence around the image.
    replace(_LLAVA_V0, name="gpt4roi", inference=None, image=_OVERVIEW, video=_OVERVIEW),
    # The form of grounded question answering. Deviation: the model was trained on all of a text; here, as in every
    # template, the answers are supervised.
    Template(
        name="kosmos_2",
        user_open="<grounding> Question: ",
        user_close=" ",
        assistant_open="Answer:",
        answer_join=" ",
        eos=True,
        media="before_turn",
        media_join="",
        image=_KOSMOS_2_IMAGE,
        video=_KOSMOS_2_IMAGE,
    ),
    # OpenFlamingo's prompt for questions, and its forms of captions and documents. Demonstrations have no blank before
    # the answer. No published training has questions; here a blank stands there, with which words are whole tokens.
    _flamingo(
        "openflamingo",
        user_open="Question:",
        user_close=" ",
        assistant_open="Short answer:",
        answer_join=" ",
        inference=_flamingo("openflamingo", user_open="Question:", user_close=" ", assistant_open="Short answer:"),
    ),
    _flamingo("openflamingo_caption", media="only"),
    # Interleaved documents: a user's turn is an image, an assistant's the text behind it.
    _flamingo("openflamingo_document", media="inline"),
    _flamingo("otter", user_open="User:", user_close=" ", assistant_open="GPT:<answer>"),
    _idefics("idefics", end="<end_of_utterance>", user_close="<end_of_utterance>\n", after_end="\n"),
    # The base models never saw <end_of_utterance>.
    _idefics("idefics_base", end="\n", user_close="\n"),
    Template(name="idefics_document", eos=True, media="inline", image=_IDEFICS_IMAGE, video=_IDEFICS_IMAGE),
    # BLIP-2: captions without a word of the user's; questions as on the cards of the released weights. An answer of
    # OPT's ends with a newline.
    Template(name="blip2_opt_caption", end="\n", media="only_before_bos"),
    Template(name="blip2_t5_caption", bos=False, eos=True, media="only_before_bos"),
    Template(
        name="blip2_opt",
        user_open="Question: ",
        user_close=" Answer:",
        answer_join=" ",
        end="\n",
        media="before_bos",
    ),
    Template(name="blip2_t5", user_open="Question: ", user_close=" Answer:", bos=False, eos=True, media="before_bos"),
    # InstructBLIP's prompt is the instruction. Its Vicuna tokenizer has </s> for BOS as well.
    Template(name="instructblip", answer_join=" ", bos_is_eos=True, eos=True, media="before_bos"),
    Template(name="instructblip_t5", bos=False, eos=True, media="before_bos"),
    # Trained on the placeholder before or behind the question, at random; asked with another system text.
    _video_chatgpt(
        _POLITE_TO_USER,
        media="inline",
        inference=_video_chatgpt(
            "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content "
            "that the user provides, and assist the user with a variety of tasks using natural language.Follow the "
            "instructions carefully and explain your answers in detail based on the provided video.",
            media="back",
        ),
    ),
    # Video-LLaMA's Vicuna form. Deviation: a sentence with the times of the frames follows "</Video> " in the published
    # prompt; the frames that a method is given here carry no times.
    _video_llama(start="\n\n###", user_close="\n###", end="\n###", inference=_VIDEO_LLAMA_INFERENCE),
    _minigpt_4(
        user_close=" ###",
        inference=_minigpt_4(
            system="Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I "
            "provide it to you. Please answer my questions.",
            user_close="###",
        ),
    ),
)

TEMPLATES: Mapping[str, Template] = {template.name: template for template in _ALL}


def get_template(name: str) -> Template:
    """The template of this exact name; ZooError with the nearest name otherwise."""
    if name not in TEMPLATES:
        raise ZooError(f"unknown template {name!r}.{nearest(name, list(TEMPLATES))}")
    return TEMPLATES[name]
