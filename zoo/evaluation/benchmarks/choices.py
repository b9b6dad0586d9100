"""ScienceQA-IMG, MMBench, SEED-Bench and MMVP: one of several options."""

import base64
import binascii
import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from zoo.data.sample import Medium
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Prompt, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import LETTER_SUFFIX, LONG, choices, instructblip
from zoo.evaluation.benchmarks.readers import dictionary, hint_fields, option_fields, rows
from zoo.evaluation.decoding import Decoding
from zoo.evaluation.entries import get_value, iterate_entries
from zoo.evaluation.metrics.inputs import load
from zoo.evaluation.metrics.mmbench import MISSING, ROTATION, options_of

# The cell of a rotated row may hold the index of the row that has the image.
LONGEST_INDEX = 64
SEED_LETTERS = "abcd"


def read_scienceqa(folder: Folder) -> Iterator[Question]:
    """The questions of a split that have an image."""
    path = folder.path("problems")
    problems = dictionary(path)
    ids = load(folder.path("splits"))
    for name in get_value(ids, folder.split, list, str(folder.path("splits"))):
        where = f"{path}: {name!r}"
        problem = get_value(problems, name, dict, str(path))
        if not problem.get("image"):
            continue
        options, answer = get_value(problem, "choices", list, where), get_value(problem, "answer", int, where)
        if not 0 <= answer < len(options):
            raise ZooError(f"{where}: the answer {answer} is no place among {len(options)} choices")
        yield Question(
            key=name,
            fields={
                "question": get_value(problem, "question", str, where),
                **hint_fields(problem.get("hint") or ""),
                **option_fields(options),
            },
            media=(folder.image(f"{name}/{problem['image']}", where),),
            group=name,
            annotation={
                key: problem[key]
                for key in ("choices", "answer", "image", "hint", "subject", "grade", "split")
                if key in problem
            },
            answers=(string.ascii_uppercase[answer],),
            candidates=tuple(string.ascii_uppercase[: len(options)]),
        )


def read_mmbench(folder: Folder) -> Iterator[Question]:
    """MMBench's table. Every rotation of a question is a question of its own; they are one cluster.

    A table without rotations gets them: as many as there are options, each moving every option by one place.
    """
    path = folder.path("table")
    table = {str(row.get("index")): (where, row) for where, row in rows(path)}
    has_rotations = any(name.isdigit() and int(name) >= ROTATION for name in table)
    for name, (where, row) in table.items():
        if not name.isdigit():
            raise ZooError(f"{where}: index {name!r} is not a number; MMBench numbers its questions")
        options = options_of(row)
        if row.get("answer") not in options:
            raise ZooError(
                f"{where}: the answer {row.get('answer')!r} is none of {', '.join(options)}; use the dev split"
            )
        image = _image(row, table, where)
        for number in range(1 if has_rotations else len(options)):
            yield _rotated(row, int(name), number, options, image, where)


def _rotated(
    row: dict[str, Any], index: int, number: int, options: dict[str, str], image: bytes, where: str
) -> Question:
    letters = list(options)
    texts = [options[letters[(at + number) % len(letters)]] for at in range(len(letters))]
    answer = letters[(letters.index(row["answer"]) - number) % len(letters)]
    hint = row.get("hint") or ""
    key, group = str(index + number * ROTATION), str(index % ROTATION)
    kept = {name: row[name] for name in ("category", "l2-category", "split") if name in row}
    return Question(
        key=key,
        fields={
            "question": get_value(row, "question", str, where),
            **hint_fields("" if hint in MISSING else hint),
            "lettered_lines": "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts)),
        },
        media=(Medium(kind="image", source=image, name=f"mmbench-{group}"),),
        group=group,
        annotation={"index": key, "answer": answer, **kept, **dict(zip(letters, texts))},
        answers=(answer,),
        candidates=tuple(letters),
    )


def _image(row: dict[str, Any], table: dict[str, tuple[str, dict[str, Any]]], where: str) -> bytes:
    cell = get_value(row, "image", str, where)
    if len(cell) < LONGEST_INDEX and cell in table:
        cell = get_value(table[cell][1], "image", str, where)
    try:
        return base64.b64decode(cell, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ZooError(f"{where}: the image is no base64 ({error}); use the published table") from error


def read_seed_bench(folder: Folder) -> Iterator[Question]:
    """SEED-Bench's questions of the split's kind; of a video one frame is shown, as LLaVA evaluates."""
    path = folder.path("questions")
    kinds = {str(number): name for name, number in get_value(load(path), "question_type", dict, str(path)).items()}
    for where, entry in iterate_entries(path, "questions"):
        if get_value(entry, "data_type", str, where) != folder.split:
            continue
        name = str(get_value(entry, "question_id", (int, str), where))
        options = [str(get_value(entry, f"choice_{letter}", (str, int, float), where)) for letter in SEED_LETTERS]
        answer = get_value(entry, "answer", str, where)
        if answer not in SEED_LETTERS.upper():
            raise ZooError(f"{where}: the answer {answer!r} is none of A, B, C, D")
        data_id = get_value(entry, "data_id", str, where)
        number = str(entry.get("question_type_id", ""))
        yield Question(
            key=name,
            fields={
                "question": get_value(entry, "question", str, where),
                **hint_fields(""),
                **option_fields(options),
            },
            media=(folder.image(data_id if folder.split == "image" else f"{name}.png", where),),
            group=data_id,
            annotation={
                "question_id": name,
                "answer": answer,
                "data_type": folder.split,
                "question_type_id": kinds.get(number, number),
                "options": options,
            },
            answers=(answer,),
            candidates=tuple(SEED_LETTERS.upper()),
        )


def read_seed_bench_texts(folder: Folder) -> Iterator[Question]:
    """The same with the texts of the options to rank."""
    for question in read_seed_bench(folder):
        options = tuple(question.annotation["options"])
        right = options[SEED_LETTERS.upper().index(question.answers[0])]
        yield replace(question, candidates=options, answers=(right,))


def read_mmvp(folder: Folder) -> Iterator[Question]:
    """Questions.csv; row i is about image i, and rows 1 and 2, 3 and 4, ... are pairs (and clusters)."""
    for where, row in rows(folder.path("questions")):
        name = get_value(row, "Index", str, where)
        if not name.isdigit():
            raise ZooError(f"{where}: Index {name!r} is not a number; MMVP numbers its questions from 1")
        right = get_value(row, "Correct Answer", str, where)
        yield Question(
            key=name,
            fields={
                "question": get_value(row, "Question", str, where),
                "options": get_value(row, "Options", str, where),
            },
            media=(folder.image(f"{name}.jpg", where),),
            group=f"pair-{(int(name) + 1) // 2}",
            annotation={"Index": name, "Correct Answer": right},
            answers=(right,),
            candidates=("(a)", "(b)"),
        )


_SEED = Benchmark(
    name="seed_bench",
    title="SEED-Bench-1, by letter",
    group="multiple choice",
    splits={
        "image": {"questions": "SEED-Bench.json", "images": "SEED-Bench-image/"},
        "video": {"questions": "SEED-Bench.json", "images": "SEED-Bench-video-image/"},
    },
    read=read_seed_bench,
    prompts=choices(),
    metric="seed_bench:letter",
    source="Li et al. (2023), AILab-CVC/SEED-Bench; LLaVA, docs/Evaluation.md",
    notes=("video: the middle frame of each question as QUESTION_ID.png, as LLaVA's script extracts it",),
)
_MMBENCH_PROMPTS = choices(LONG)

BENCHMARKS = (
    Benchmark(
        name="scienceqa_img",
        title="ScienceQA, questions with an image",
        group="multiple choice",
        splits={
            split: {"problems": "problems.json", "splits": "pid_splits.json", "images": f"{split}/|images/{split}/"}
            for split in ("test", "val", "train")
        },
        read=read_scienceqa,
        prompts=choices(llava="{context_line}{question}\n{lettered_lines}")
        | instructblip("{context_line}Question: {question} Options: {bracketed}. Answer:"),
        metric="scienceqa:llava",
        train="train",
        source="Lu et al. (2022); LLaVA, docs/Evaluation.md",
    ),
    Benchmark(
        name="mmbench",
        title="MMBench dev (English), CircularEval",
        group="multiple choice",
        splits={
            "dev": {"table": "mmbench_dev_20230712.tsv|mmbench_dev_en_20231003.tsv|MMBench_DEV_EN.tsv"},
        },
        read=read_mmbench,
        prompts=_MMBENCH_PROMPTS,
        metric="mmbench:circular",
        source="Liu et al. (2023)",
        notes=(
            "every rotation of the options is asked; a table without rotated rows gets them",
            "?metric=mmbench:vanilla scores each row by itself",
        ),
    ),
    Benchmark(
        name="mmbench_cn",
        title="MMBench dev (Chinese), CircularEval",
        group="multiple choice",
        splits={"dev": {"table": "mmbench_dev_cn_20231003.tsv|MMBench_DEV_CN.tsv"}},
        read=read_mmbench,
        prompts={
            "llava": replace(
                _MMBENCH_PROMPTS["llava"],
                text=_MMBENCH_PROMPTS["llava"].text.replace(LETTER_SUFFIX, "\n请直接回答选项字母。"),
            )
        },
        metric="mmbench:circular",
        source="Liu et al. (2023)",
    ),
    _SEED,
    replace(
        _SEED,
        name="seed_bench_likelihood",
        title="SEED-Bench-1, by likelihood of the options' texts",
        read=read_seed_bench_texts,
        prompts={
            "llava": Prompt(
                text="Question: {question}\nAnswer:",
                decoding=Decoding(mode="likelihood", normalisation="sum"),
                source="AILab-CVC/SEED-Bench, eval.py; the end of turn is part of every option here",
            )
        },
        metric="seed_bench:likelihood",
    ),
    Benchmark(
        name="mmvp",
        title="MMVP: pairs of images that CLIP cannot tell apart",
        group="multiple choice",
        splits={"test": {"questions": "Questions.csv", "images": "MMVP Images/"}},
        read=read_mmvp,
        prompts={
            "llava": Prompt(
                text="{question} {options}" + LETTER_SUFFIX,
                decoding=LONG,
                source="tsb0601/MMVP, scripts/evaluate_vlm.py, with LLaVA-1.5's instruction so that a rule can read it",
            )
        },
        metric="mmvp:rule",
        source="Tong et al. (2024)",
        notes=("the published numbers are judged; this is the rule",),
    ),
)
