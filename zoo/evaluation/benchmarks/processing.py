"""What is done to a generated answer before it is scored, each by the name that ``zoo benchmarks show`` prints."""

import re
from collections.abc import Callable

from zoo.evaluation.normalise import normalise_m4c
from zoo.evaluation.parsing import stated_answer


def _flamingo_answer(text: str) -> str:
    """open_flamingo, eval/vqa_metric.py: cut at the words of the next prompt, even inside "Shorts", then at a comma."""
    return re.split("Question|Answer|Short", text, maxsplit=1)[0].split(", ")[0]


def _flamingo_caption(text: str) -> str:
    """open_flamingo, eval/coco_metric.py: cut at the next prompt, quotation marks deleted."""
    return text.split("Output", 1)[0].replace('"', "")


PROCESSINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "M4C's answer processor": normalise_m4c,
    "cut at Question, Answer or Short, then at a comma": _flamingo_answer,
    "cut at Output, without quotation marks": _flamingo_caption,
    "what stands in 'The answer is X .', else as it is": lambda text: stated_answer(text) or text,
    "first line": lambda text: text.strip().split("\n")[0],
}
