"""POPE and MME: yes or no."""

from collections.abc import Iterator
from dataclasses import replace

from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import YES_NO, short_answers
from zoo.evaluation.entries import get_value, iterate_entries, read_text
from zoo.evaluation.metrics.mme import SUBTASKS

POPE_CATEGORIES = ("random", "popular", "adversarial")
MME_SUFFIX = " Please answer yes or no."
MME_COLUMNS = (3, 4)
YES_NO_WORDS = ("yes", "no")


def read_pope(folder: Folder) -> Iterator[Question]:
    """Question files of one or all categories, as lines or arrays; ids repeat, so that the category is part of them."""
    for category in POPE_CATEGORIES:
        if category not in folder.places:
            continue
        for where, entry in iterate_entries(folder.path(category), None):
            name = get_value(entry, "image", str, where)
            label = get_value(entry, "label", str, where)
            key = f"{category}/{get_value(entry, 'question_id', (int, str), where)}"
            yield Question(
                key=key,
                fields={"question": get_value(entry, "text", str, where)},
                media=(folder.image(name, where),),
                group=name,
                annotation={"question_id": key, "label": label, "category": category},
                answers=(label,),
                candidates=YES_NO_WORDS,
            )


def read_mme(folder: Folder) -> Iterator[Question]:
    """Every subtask's text file: image, question, Yes or No between tabs; two consecutive lines are of one image."""
    for area in SUBTASKS.values():
        for subtask in area:
            path = folder.path(subtask)
            lines = [line for line in read_text(path).split("\n") if line.strip()]
            for number, line in enumerate(lines, start=1):
                where = f"{path}: line {number}"
                columns = line.rstrip("\r").split("\t")
                if len(columns) not in MME_COLUMNS or columns[2].strip().lower() not in YES_NO_WORDS:
                    raise ZooError(f"{where}: MME lines are image, question, Yes or No between tabs")
                name, question, label = (column.strip() for column in columns[:3])
                yield Question(
                    key=f"{subtask}/{number}",
                    fields={"question": question, "bare_question": question.removesuffix(MME_SUFFIX)},
                    media=(folder.image(name, where, f"{subtask} images"),),
                    group=f"{subtask}/{name}",
                    annotation={"category": subtask, "image": name, "question": question, "answer": label},
                    answers=(label,),
                    candidates=YES_NO_WORDS,
                )


def _pope_files(prefix: str, categories: tuple[str, ...]) -> dict[str, str]:
    return {category: f"{prefix}_pope_{category}.json" for category in categories}


def _pope(name: str, title: str, prefix: str, images: str) -> Benchmark:
    splits = {"all": POPE_CATEGORIES} | {category: (category,) for category in POPE_CATEGORIES}
    return Benchmark(
        name=name,
        title=title,
        group="hallucination and perception",
        splits={split: _pope_files(prefix, categories) | {"images": images} for split, categories in splits.items()},
        read=read_pope,
        # Shikra's answers are sentences, which its own rule reads.
        prompts=YES_NO | {"shikra": replace(YES_NO["shikra"], processing="as it is", metric="pope:shikra")},
        metric="pope:official",
        source="Li et al. (2023), RUCAIBox/POPE",
        notes=("all: the three sets and their mean; random, popular or adversarial: one of them",),
    )


def _mme_prompts() -> dict:
    prompts = short_answers()
    # LLaVA's files lack the request for yes or no, which its own instruction stands for (lmms-eval 0.7.3, tasks/mme).
    return prompts | {
        "llava": replace(prompts["llava"], text=prompts["llava"].text.replace("{question}", "{bare_question}"))
    }


_MME_PLACES = {subtask: f"{subtask}.txt|{subtask}/{subtask}.txt" for area in SUBTASKS.values() for subtask in area}

BENCHMARKS = (
    _pope("pope", "POPE on COCO", "coco", "val2014/|images/val2014/|images/"),
    _pope("pope_aokvqa", "POPE on A-OKVQA", "aokvqa", "val2014/|images/val2014/|images/"),
    _pope("pope_gqa", "POPE on GQA", "gqa", "images/"),
    Benchmark(
        name="mme",
        title="MME: 10 perception and 4 cognition subtasks",
        group="hallucination and perception",
        splits={
            "all": _MME_PLACES
            | {f"{subtask} images": f"{subtask}/images/|{subtask}/|images/{subtask}/" for subtask in _MME_PLACES}
        },
        read=read_mme,
        prompts=_mme_prompts(),
        metric="mme:official",
        source="Fu et al. (2023), eval_tool",
    ),
)
