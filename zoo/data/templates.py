"""The published conversation formats, declared as data (``zoo.data.template`` says what the fields mean).

Sources: LLaVA ``llava/conversation.py`` and ``llava/train/train.py``, Qwen's ChatML (``chatml``), OpenFlamingo
``open_flamingo/train/data.py`` and ``open_flamingo/eval/eval_model.py``, Otter ``pipeline/mimicit_utils``,
transformers' ``processing_idefics.py``.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.data.template import Template
from zoo.errors import ZooError, nearest

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
_IMG = "<img>{media}</img>"
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
    Template(
        name="minigpt_v2",
        user_open="[INST] ",
        user_close=" [/INST]",
        answer_join=" ",
        eos=True,
        bos_every_round=True,
        media_join=" ",
        image="<Img>{media}</Img>",
        video="<Img>{media}</Img>",
    ),
    # Deviation: the published training also supervises the marks that begin and end the other turns.
    _chatml("qwen_vl", "You are a helpful assistant.", newline="\n", bos=False, image=_IMG, video=_IMG),
    Template(
        name="qwen_vl_caption",
        user_close="Generate the caption in English:",
        answer_join=" ",
        eos=True,
        bos=False,
        media="only",
        image=_IMG,
        video=_IMG,
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
    # The image's tokens stand before the sentence with its marks.
    Template(name="florence_2", eos=True, media="before_bos"),
    Template(name="paligemma", user_close="\n", eos=True, media="before_bos"),
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
    # Chat-UniVi trains in Vicuna's form and is asked in another, after a greeting.
    replace(
        _vicuna("chat_univi", _POLITE_TO_USER),
        inference=Template(
            name="chat_univi",
            system=_POLITE_TO_HUMAN,
            start="###Human: Hi!###Assistant: Hi there! How can I help you today?###",
            user_open="Human: ",
            user_close="###",
            assistant_open="Assistant:",
            answer_join=" ",
            end="###",
        ),
    ),
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
