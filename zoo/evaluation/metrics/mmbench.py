"""MMBench: CircularEval, where a question counts only if it is right under every rotation of its options.

Liu et al., "MMBench: Is Your Multi-modal Model an All-around Player?" (2023), and VLMEvalKit's mcq_circular_eval in its
``exact_matching`` mode: options are read by rule, no judge is asked, what cannot be read is wrong.
"""

import math
import string
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, grouped_mean, join, keyed, mean, named, texts
from zoo.evaluation.metrics.metric import Metric, Outcome
from zoo.evaluation.parsing import option_letter

ROTATION = 1_000_000
GROUPS = ("split", "l2-category", "category")
# pandas reads these cells as missing, and so an option "None" is no option for VLMEvalKit.
MISSING = frozenset(
    "|#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|")
)


def options_of(row: dict[str, Any]) -> dict[str, str]:
    """Letter to text of a row's options; cells that pandas takes for missing are left out."""
    return {
        letter: str(row[letter]) for letter in string.ascii_uppercase if letter in row and not _is_missing(row[letter])
    }


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or str(cell) in MISSING


def score_mmbench(predictions: Any, references: Any, *, circular: bool) -> Outcome:
    """Share of questions right; with ``circular`` of questions whose every rotation in the references is right.

    Rotation k of question i has the index i + k * 1,000,000. Rotations that the references lack are not asked for.

    Raises:
        ZooError: see ``inputs``; an index that is no number; a rotation without its question.
    """
    rows = keyed(references, "references", value_keys=None, id_keys=("index",))
    said = texts(
        predictions, "predictions", id_keys=("index", "question_id"), value_keys=("prediction", "text", "response")
    )
    right = {}
    for name, answer, row in join(said, rows):
        if not name.isdigit():
            raise ZooError(f"references: index {name!r} is not a number; MMBench numbers its questions")
        # Only the plain evaluation of VLMEvalKit strips answers, which matters for the rule on their length.
        chosen = option_letter(answer if circular else answer.strip(), options_of(row))
        right[name] = float(chosen == get(row, "answer", f"references: {name!r}"))
    if circular:
        groups: dict[str, list[float]] = {}
        for name, value in right.items():
            groups.setdefault(str(int(name) % ROTATION), []).append(value)
        if orphans := [name for name in groups if name not in rows]:
            raise ZooError(f"references: rotations of {named(orphans)} without the question itself; add its row")
        right = {name: min(values) for name, values in groups.items()}
    breakdown = {}
    for key in GROUPS:
        labels = {name: str(rows[name][key]) for name in right if not _is_missing(rows[name].get(key))}
        if labels:
            breakdown[key] = grouped_mean(right, labels)
    accuracy = {"accuracy": mean(list(right.values()))}
    return Outcome(values=accuracy, items=right, breakdown=breakdown, notes=(f"{len(rows)} rows",) if circular else ())


def _mmbench(variant: str, summary: str, circular: bool) -> Metric:
    return Metric(
        name="mmbench",
        variant=variant,
        summary=summary,
        source="VLMEvalKit, utils/matching_util.py and dataset/utils/multiple_choice.py, exact_matching mode",
        unit="fraction",
        predictions="a table or list of {index, prediction}, {question_id, text} lines, {index: text}",
        references="MMBench's table: index, A, B, ..., answer, and category, l2-category, split where given",
        compute=partial(score_mmbench, circular=circular),
    )


SCORERS = (
    _mmbench("circular", "right under every rotation of the options (CircularEval)", True),
    _mmbench("vanilla", "every row by itself", False),
)
