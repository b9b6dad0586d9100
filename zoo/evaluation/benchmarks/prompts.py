"""The published prompts that several benchmarks share, by style, with the decoding that belongs to them."""

from collections.abc import Mapping
from dataclasses import replace

from zoo.evaluation.benchmarks.benchmark import Prompt
from zoo.evaluation.benchmarks.styles import FLAMINGO_CAPTION, FLAMINGO_QUESTION
from zoo.evaluation.decoding import Decoding

LLAVA = "LLaVA, docs/Evaluation.md and its question files"
LAVIS = "LAVIS, lavis/projects/instructblip and tasks; InstructBLIP (Dai et al., 2023), appendix"
FLAMINGO = "open_flamingo, eval/eval_model.py and eval/evaluate.py"
BLIP2 = "LAVIS, lavis/projects/blip2/eval; BLIP-2 (Li et al., 2023)"
SHIKRA = "the question alone; Shikra (Chen et al., 2023) draws one of its 140 wordings for each item"
BARE = "the question as it stands in the benchmark"

CUT_ANSWER = "cut at Question, Answer or Short, then at a comma"
CUT_CAPTION = "cut at Output, without quotation marks"
STATED = "what stands in 'The answer is X .', else as it is"
SHORT_SUFFIX = "\nAnswer the question using a single word or phrase."
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."

GREEDY = Decoding(max_new_tokens=128)
LONG = Decoding(max_new_tokens=1024)
BLIP_ANSWER = Decoding(max_new_tokens=10, min_new_tokens=1, num_beams=5, length_penalty=-1.0)
# LAVIS's VQA task passes no length penalty on: the Vicuna model's default is 0, the T5 model's -1. Nor does it pass a
# repetition penalty, whose default in generate is 1.5.
INSTRUCTBLIP_ANSWER = replace(BLIP_ANSWER, length_penalty=0.0, repetition_penalty=1.5)
INSTRUCTBLIP_T5_ANSWER = replace(INSTRUCTBLIP_ANSWER, length_penalty=-1.0)
BLIP_CAPTION = Decoding(max_new_tokens=80, min_new_tokens=10, num_beams=5, repetition_penalty=1.15)
FLAMINGO_ANSWER = Decoding(max_new_tokens=5, num_beams=3, length_penalty=0.0)
FLAMINGO_LONG_ANSWER = replace(FLAMINGO_ANSWER, max_new_tokens=10)
FLAMINGO_CAPTIONS = replace(FLAMINGO_ANSWER, max_new_tokens=20)

Prompts = Mapping[str, Prompt]


def instructblip(text: str, decoding: Decoding = INSTRUCTBLIP_ANSWER) -> Prompts:
    """InstructBLIP's prompt, and that of its T5 models where their decoding differs."""
    both = {"instructblip": Prompt(text=text, decoding=decoding, source=LAVIS)}
    if decoding == INSTRUCTBLIP_ANSWER:
        both["instructblip_t5"] = Prompt(text=text, decoding=INSTRUCTBLIP_T5_ANSWER, source=LAVIS)
    return both


def short_answers(
    *,
    before_suffix: str = "",
    processing: str = "as it is",
    instructblip_text: str = "Question: {question} Short answer:",
    flamingo: Decoding = FLAMINGO_ANSWER,
) -> dict[str, Prompt]:
    """Questions with a short answer in every style.

    ``before_suffix``: what LLaVA puts between the question and its instruction; ``processing``: LLaVA's.
    """
    return {
        "llava": Prompt(
            text=f"{{question}}{before_suffix}{SHORT_SUFFIX}", decoding=GREEDY, processing=processing, source=LLAVA
        ),
        **instructblip(instructblip_text),
        "blip2": Prompt(text="{question}", decoding=BLIP_ANSWER, source=BLIP2),
        "openflamingo": Prompt(
            text="{question}", decoding=flamingo, processing=CUT_ANSWER, form=FLAMINGO_QUESTION, source=FLAMINGO
        ),
        "shikra": Prompt(text="{question}", decoding=GREEDY, processing=STATED, source=SHIKRA),
        "plain": Prompt(text="{question}", decoding=GREEDY, source=BARE),
    }


def choices(
    decoding: Decoding = GREEDY, *, llava: str = "{hint_line}{question}\n{lettered_lines}"
) -> dict[str, Prompt]:
    """Questions with lettered options, answered by letter."""
    return {"llava": Prompt(text=llava + LETTER_SUFFIX, decoding=decoding, source=LLAVA)}


CAPTIONS: dict[str, Prompt] = {
    "llava": Prompt(
        text="Provide a one-sentence caption for the provided image.",
        decoding=GREEDY,
        source="LLaVA-1.5's training mixture (TextCaps); lmms-eval 0.7.3, tasks/coco_cap",
    ),
    **instructblip("A short image caption.", BLIP_CAPTION),
    "openflamingo": Prompt(
        text="", decoding=FLAMINGO_CAPTIONS, processing=CUT_CAPTION, form=FLAMINGO_CAPTION, source=FLAMINGO
    ),
}
YES_NO = short_answers()


def open_answers(decoding: Decoding = LONG) -> dict[str, Prompt]:
    """The bare question, for benchmarks whose answers are sentences."""
    return {"llava": Prompt(text="{question}", decoding=decoding, source=BARE)}
