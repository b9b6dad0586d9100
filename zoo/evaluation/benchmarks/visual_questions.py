"""VQAv2, OK-VQA, VizWiz, TextVQA and GQA: short answers to questions about an image."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from zoo.evaluation.benchmarks.benchmark import Benchmark, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import FLAMINGO_LONG_ANSWER, short_answers
from zoo.evaluation.benchmarks.readers import dictionary, joined
from zoo.evaluation.entries import get_value, iterate_entries

# LAVIS passes at most so many OCR tokens on.
NUM_OCR_TOKENS = 30
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."


def read_vqa(folder: Folder) -> Iterator[Question]:
    """VQA's questions and annotations, joined on ``question_id``; images by COCO's name and number."""
    subset = {"val": "val2014", "train": "train2014"}[folder.split]
    files = folder.path("questions"), folder.path("annotations")
    for (where, entry), (at, note) in joined(*files, ("questions", "annotations"), "question_id"):
        image_id = get_value(entry, "image_id", int, where)
        answers = [get_value(one, "answer", str, at) for one in get_value(note, "answers", list, at)]
        kept = {key: note[key] for key in ("answers", "question_type", "answer_type") if key in note}
        yield Question(
            key=str(entry["question_id"]),
            fields={"question": get_value(entry, "question", str, where)},
            media=(folder.image(f"COCO_{subset}_{image_id:012d}.jpg", where),),
            group=str(image_id),
            annotation=kept,
            answers=tuple(answers),
        )


def read_vizwiz(folder: Folder) -> Iterator[Question]:
    """VizWiz's list; an entry has no id but its image."""
    for where, entry in iterate_entries(folder.path("annotations"), None):
        name = get_value(entry, "image", str, where)
        answers = [get_value(one, "answer", str, where) for one in get_value(entry, "answers", list, where)]
        yield Question(
            key=name,
            fields={"question": get_value(entry, "question", str, where)},
            media=(folder.image(name, where),),
            group=name,
            annotation={key: entry[key] for key in ("answers", "answer_type") if key in entry},
            answers=tuple(answers),
        )


def read_textvqa(folder: Folder) -> Iterator[Question]:
    """TextVQA 0.5.1; images are named by ``image_id``."""
    for where, entry in iterate_entries(folder.path("annotations"), "data"):
        image_id = get_value(entry, "image_id", str, where)
        answers = get_value(entry, "answers", list, where)
        tokens = [str(token) for token in entry.get("ocr_tokens", [])]
        yield Question(
            key=str(get_value(entry, "question_id", (int, str), where)),
            fields={
                "question": get_value(entry, "question", str, where),
                "ocr_line": f"\nReference OCR token: {', '.join(tokens)}",
                "ocr_tokens": ", ".join(tokens[:NUM_OCR_TOKENS]),
            },
            media=(folder.image(f"{image_id}.jpg", where),),
            group=image_id,
            annotation={"answers": answers},
            answers=tuple(map(str, answers)),
        )


def read_gqa(folder: Folder) -> Iterator[Question]:
    """GQA's questions by id."""
    path = folder.path("questions")
    for name, entry in dictionary(path).items():
        where = f"{path}: {name!r}"
        image_id = get_value(entry, "imageId", str, where)
        answer = get_value(entry, "answer", str, where)
        kept: dict[str, Any] = {key: entry[key] for key in ("answer", "isBalanced", "types") if key in entry}
        yield Question(
            key=name,
            fields={"question": get_value(entry, "question", str, where)},
            media=(folder.image(f"{image_id}.jpg", where),),
            group=image_id,
            annotation=kept,
            answers=(answer,),
        )


def _coco(questions: str, annotations: str, subset: str) -> dict[str, str]:
    return {
        "questions": questions.format(subset),
        "annotations": annotations.format(subset),
        "images": f"{subset}/|images/{subset}/|images/",
    }


def _vqa_splits(questions: str, annotations: str) -> dict[str, dict[str, str]]:
    return {split: _coco(questions, annotations, f"{split}2014") for split in ("val", "train")}


_OK_VQA = short_answers(instructblip_text="Question: {question} Short Answer:")
_TEXT = short_answers(
    before_suffix="{ocr_line}",
    instructblip_text="OCR tokens: {ocr_tokens}. Question: {question} Short answer:",
    flamingo=FLAMINGO_LONG_ANSWER,
)
_TEXT_WITHOUT_OCR = short_answers(flamingo=FLAMINGO_LONG_ANSWER)
_TEXTVQA = Benchmark(
    name="textvqa",
    title="TextVQA 0.5.1",
    group="visual questions",
    splits={
        "val": {"annotations": "TextVQA_0.5.1_val.json", "images": "train_images/|train_val_images/|images/"},
        "train": {"annotations": "TextVQA_0.5.1_train.json", "images": "train_images/|train_val_images/|images/"},
    },
    read=read_textvqa,
    prompts=_TEXT_WITHOUT_OCR,
    metric="vqa:m4c",
    train="train",
    source="Singh et al. (2019)",
    notes=("without OCR tokens in the prompt; textvqa_ocr has them, which is worth several points",),
)

BENCHMARKS = (
    Benchmark(
        name="vqav2",
        title="VQA v2.0",
        group="visual questions",
        splits=_vqa_splits("v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"),
        read=read_vqa,
        prompts=short_answers(processing="M4C's answer processor"),
        metric="vqa:official",
        train="train",
        source="Goyal et al. (2017)",
        notes=("test-dev and test are scored by a server only; val is held in for methods trained on it",),
    ),
    Benchmark(
        name="okvqa",
        title="OK-VQA 1.1",
        group="visual questions",
        splits=_vqa_splits("OpenEnded_mscoco_{}_questions.json", "mscoco_{}_annotations.json"),
        read=read_vqa,
        prompts=_OK_VQA,
        metric="vqa:official",
        train="train",
        source="Marino et al. (2019); answers as shipped (stemmed), predictions are not stemmed",
    ),
    Benchmark(
        name="vizwiz",
        title="VizWiz VQA",
        group="visual questions",
        splits={
            split: {
                "annotations": f"{split}.json|Annotations/{split}.json|annotations/{split}.json",
                "images": f"{split}/|images/{split}/|images/",
            }
            for split in ("val", "train")
        },
        read=read_vizwiz,
        prompts=short_answers(before_suffix=UNANSWERABLE, processing="M4C's answer processor"),
        metric="vqa:robust",
        train="train",
        source="Gurari et al. (2018)",
        notes=("its answers have no ids, so annotators are told apart by position: vqa:official would be too low",),
    ),
    _TEXTVQA,
    replace(
        _TEXTVQA,
        name="textvqa_ocr",
        title="TextVQA 0.5.1 with OCR tokens in the prompt",
        prompts=_TEXT,
        notes=("OCR tokens (Rosetta) of the annotation file stand in the prompt",),
    ),
    Benchmark(
        name="gqa",
        title="GQA",
        group="visual questions",
        splits={
            split: {"questions": f"{name}|questions/{name}|questions1.2/{name}", "images": "images/"}
            for split, name in {
                "testdev": "testdev_balanced_questions.json",
                "val": "val_balanced_questions.json",
                "train": "train_balanced_questions.json",
            }.items()
        },
        read=read_gqa,
        prompts=short_answers(),
        metric="gqa:llava",
        train="train",
        source="Hudson and Manning (2019)",
    ),
)
