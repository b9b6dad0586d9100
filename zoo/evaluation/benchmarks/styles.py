"""Prompt styles: which published wording a method is asked in, by the conversation format that it was trained in."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from zoo.data.template import Template
from zoo.errors import ZooError, nearest

# style -> (what it is, the style that is used where a benchmark has no prompt of this one)
STYLES: dict[str, tuple[str, str]] = {
    "llava": ("LLaVA-1.5's instruction behind the question; methods without an evaluation prompt too", ""),
    "instructblip": ("InstructBLIP's instructions (LAVIS), beam search", "llava"),
    "instructblip_t5": ("the same with the length penalty of its T5 models", "instructblip"),
    "blip2": ("the question in BLIP-2's form, beam search", "plain"),
    "openflamingo": ("OpenFlamingo's few-shot forms, 3 beams", "plain"),
    "shikra": ("Shikra's wordings, whose answers say 'The answer is X .'", "llava"),
    "plain": ("the question and nothing else", "llava"),
}
_BY_TEMPLATE = {
    "instructblip": "instructblip",
    "instructblip_t5": "instructblip_t5",
    "blip2_opt": "blip2",
    "blip2_t5": "blip2",
    "openflamingo": "openflamingo",
    "shikra": "shikra",
    "otter": "plain",
    "idefics": "plain",
    "idefics_base": "plain",
    "kosmos_2": "plain",
    "video_chatgpt": "plain",
    "video_llama": "plain",
}


def style_of(template: str) -> str:
    """The style of a method by the name of its template; ``llava`` where nothing else was published."""
    return _BY_TEMPLATE.get(template, "llava")


def fallbacks(style: str) -> list[str]:
    """The style and those that stand in for it, in order. Raises ZooError for an unknown one."""
    if style not in STYLES:
        raise ZooError(f"unknown prompt style {style!r}.{nearest(style, list(STYLES))}")
    found = [style]
    while STYLES[found[-1]][1]:
        found.append(STYLES[found[-1]][1])
    return found


def _reformed(template: Template, **fields: str) -> Template:
    return replace(template.inference or template, inference=None, **fields)


def reform(**fields: str) -> Callable[[Template], Template]:
    """A function that gives a template's inference form with other fields."""
    return partial(_reformed, **fields)


# OpenFlamingo's evaluation (open_flamingo/eval/evaluate.py): a line break behind every demonstration but in
# classification.
FLAMINGO_QUESTION = reform(after_end="\n")
FLAMINGO_CAPTION = reform(user_open="Output:", user_close="", assistant_open="", after_end="\n")
FLAMINGO_CLASS = reform(user_open="", assistant_open="Answer:")
