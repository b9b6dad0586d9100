"""MME: accuracy over questions plus accuracy over images, per subtask, summed over perception and over cognition.

Fu et al., "MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models" (2023), and calculation.py
of its eval_tool. Each image has two questions, one with the answer yes and one with no.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, mean, named, records
from zoo.evaluation.metrics.metric import Metric, Outcome

SUBTASKS = {
    "perception": (
        "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
    ),
    "cognition": ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
}  # fmt: skip
QUESTIONS_AN_IMAGE = 2
NUM_COLUMNS = 4

Row = tuple[str, str, str, str]


def official(text: str) -> str:
    """yes, no or other: the lower-cased answer, else what its first four characters hold, yes before no.

    Nothing is stripped: "**Yes**" and "The answer is yes" are other; "nope", "now" and "not ..." are no.
    """
    text = text.lower()
    if text in ("yes", "no"):
        return text
    return next((word for word in ("yes", "no") if word in text[:4]), "other")


def lmms_eval(text: str) -> str:
    """The same on the stripped text without periods; "y" and "n" alone are read too (lmms-eval's, from Otter)."""
    text = text.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text, "other")
    return official(text)


def score_mme(predictions: Any, references: Any, *, official_pairs: bool) -> Outcome:
    """acc, acc+ and score = 100 (acc + acc+) of every subtask, and their sums.

    Args:
        predictions: as ``Metric`` documents.
        references: as ``Metric`` documents; None where the predictions hold the right answers.
        official_pairs: consecutive lines are an image's two questions and the official parser reads the answers;
            otherwise lmms-eval's rules: questions are paired by image.
    """
    parse = official if official_pairs else lmms_eval
    tasks = _read(predictions)
    if references is not None:
        _check(tasks, _read(references, answered=False))
    breakdown, items, unread = {}, {}, 0
    for task, rows in tasks.items():
        right = []
        for number, (_, _, label, answer) in enumerate(rows):
            if label.lower() not in ("yes", "no"):
                raise ZooError(f"MME {task}: line {number + 1} has the right answer {label!r}; it must be Yes or No")
            said = parse(answer)
            unread += said == "other"
            right.append(said == label.lower())
            items[f"{task}/{number + 1}"] = float(right[-1])
        pairs = _consecutive(task, rows) if official_pairs else _by_image(task, rows)
        accuracy = mean(right)
        accuracy_plus = mean([all(right[at] for at in pair) for pair in pairs])
        breakdown[task] = {
            "acc": accuracy,
            "acc_plus": accuracy_plus,
            "score": 100 * accuracy + 100 * accuracy_plus,
            "images": len(pairs),
        }
    sums = {
        area: sum(breakdown[task]["score"] for task in names if task in breakdown) for area, names in SUBTASKS.items()
    }
    lacking = [task for names in SUBTASKS.values() for task in names if task not in breakdown]
    notes = [f"subtasks without answers, not in the sums: {', '.join(lacking)}"] if lacking else []
    if unread:
        notes.append(f"{unread} answers are neither yes nor no by this rule, hence wrong")
    values = {"total": sum(sums.values())} | sums
    return Outcome(values=values, items=items, breakdown=breakdown, notes=tuple(notes))


def _read(source: Any, *, answered: bool = True) -> dict[str, list[Row]]:
    """Rows (image, question, right answer, answer) by subtask; without ``answered`` the last is empty."""
    if isinstance(source, Mapping) and all(isinstance(text, str) for text in source.values()):
        tasks = {task: _rows(task, text, answered) for task, text in source.items()}
    else:
        tasks = {}
        for number, entry in enumerate(records(source, "MME")):
            where = f"MME: entry {number}"
            row = (
                str(get(entry, ("image", "image_name", "question_id"), where)),
                str(get(entry, "question", where)),
                str(get(entry, ("answer", "label"), where)),
                str(get(entry, ("response", "prediction", "text"), where)) if answered else "",
            )
            tasks.setdefault(str(get(entry, "category", where)), []).append(row)
    known = [task for names in SUBTASKS.values() for task in names]
    if unknown := [task for task in tasks if task not in known]:
        raise ZooError(f"MME: unknown subtasks {named(unknown)}; the files are named {', '.join(known)} (.txt)")
    return {task: tasks[task] for task in known if task in tasks}


def _rows(task: str, text: str, answered: bool) -> list[Row]:
    rows = []
    # splitlines would also cut at marks inside an answer, such as U+2028, where reading a file line by line does not.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        columns = line.split("\t")
        if len(columns) not in ((NUM_COLUMNS,) if answered else (NUM_COLUMNS - 1, NUM_COLUMNS)):
            raise ZooError(
                f"MME {task}.txt: line {number} has {len(columns)} columns; it must be image, question, Yes or No"
                f"{', answer' if answered else ''} between tabs"
            )
        rows.append((columns[0], columns[1], columns[2], columns[3] if answered else ""))
    return rows


def _check(tasks: dict[str, list[Row]], expected: dict[str, list[Row]]) -> None:
    if missing := [task for task in expected if task not in tasks]:
        raise ZooError(f"predictions: subtasks {named(missing)} are missing; add their files")
    for task, rows in tasks.items():
        known = {(image, question): label for image, question, label, _ in expected.get(task, ())}
        for image, question, label, _ in rows:
            if known.get((image, question), "").strip().lower() != label.strip().lower():
                raise ZooError(
                    f"MME {task}: {image!r}, {question!r:.60} is answered {label!r} in the predictions' third column, "
                    "which the references do not say; use the files of one release"
                )
        answered = {(image, question) for image, question, _, _ in rows}
        if missing := [f"{image} {question}" for image, question in known if (image, question) not in answered]:
            raise ZooError(f"MME {task}: predictions are missing: {named(missing)}; add them")


def _consecutive(task: str, rows: list[Row]) -> list[list[int]]:
    if len(rows) % QUESTIONS_AN_IMAGE:
        raise ZooError(f"MME {task}: {len(rows)} lines; every image has two, one below the other")
    pairs = [[at, at + 1] for at in range(0, len(rows), QUESTIONS_AN_IMAGE)]
    for first, second in pairs:
        if rows[first][0] != rows[second][0]:
            raise ZooError(
                f"MME {task}: lines {first + 1} and {second + 1} are of images {rows[first][0]!r} and "
                f"{rows[second][0]!r}; the two questions of an image stand one below the other"
            )
    return pairs


def _by_image(task: str, rows: list[Row]) -> list[list[int]]:
    images: dict[str, list[int]] = {}
    for at, (image, *_) in enumerate(rows):
        images.setdefault(image, []).append(at)
    if odd := [image for image, places in images.items() if len(places) != QUESTIONS_AN_IMAGE]:
        raise ZooError(f"MME {task}: images {named(odd)} do not have exactly two questions; add or drop lines")
    return list(images.values())


def _mme(variant: str, summary: str, source: str, official_pairs: bool) -> Metric:
    return Metric(
        name="mme",
        variant=variant,
        summary=summary,
        source=source,
        unit="points",
        predictions="a folder of SUBTASK.txt with lines image, question, Yes|No, answer between tabs, or [{category, "
        "image, question, answer, response}]",
        references="not needed (the predictions' third column); or a folder of SUBTASK.txt to check it against",
        compute=partial(score_mme, official_pairs=official_pairs),
        needs_references=False,
    )


SCORERS = (
    _mme("official", "reads the first four characters, pairs lines", "MME eval_tool, calculation.py", True),
    _mme(
        "lmms_eval",
        "strips the answer, removes periods, reads y and n, pairs by image",
        "lmms-eval 0.7.3, tasks/mme/utils.py",
        False,
    ),
)
