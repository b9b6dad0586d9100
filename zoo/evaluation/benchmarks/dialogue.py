"""LLaVA-Bench in the wild and MM-Vet: open answers, graded by a judge."""

from collections.abc import Iterator

from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import open_answers
from zoo.evaluation.benchmarks.readers import dictionary, joined
from zoo.evaluation.entries import get_value, iterate_entries


def read_llava_bench(folder: Folder) -> Iterator[Question]:
    """Questions, the reference answers of GPT-4, and the captions that the judge reads in place of the image."""
    contexts = {
        get_value(entry, "image", str, where): get_value(entry, "caption", (str, list), where)
        for where, entry in iterate_entries(folder.path("contexts"), None)
    }
    files = folder.path("questions"), folder.path("references")
    for (where, entry), (at, answer) in joined(*files, (None, None), "question_id"):
        image = get_value(entry, "image", str, where)
        if image not in contexts:
            raise ZooError(f"{where}: image {image!r} has no context in {folder.path('contexts')}; add it there")
        question, reference = get_value(entry, "text", str, where), get_value(answer, "text", str, at)
        yield Question(
            key=str(entry["question_id"]),
            fields={"question": question},
            media=(folder.image(image, where),),
            group=image,
            annotation={
                "question": question,
                "answer": reference,
                # A caption that is one text is joined letter by letter in the published script too.
                "context": "\n".join(contexts[image]),
                "category": get_value(entry, "category", str, where),
            },
            answers=(reference,),
        )


def read_mm_vet(folder: Folder) -> Iterator[Question]:
    """mm-vet.json."""
    path = folder.path("questions")
    for name, entry in dictionary(path).items():
        where = f"{path}: {name!r}"
        image = get_value(entry, "imagename", str, where)
        question, answer = get_value(entry, "question", str, where), get_value(entry, "answer", str, where)
        yield Question(
            key=name,
            fields={"question": question},
            media=(folder.image(image, where),),
            group=image,
            annotation={
                "question": question,
                "answer": answer,
                "capability": get_value(entry, "capability", list, where),
            },
            answers=(answer,),
        )


BENCHMARKS = (
    Benchmark(
        name="llava_bench",
        title="LLaVA-Bench in the wild",
        group="open dialogue",
        splits={
            "test": {
                "questions": "questions.jsonl",
                "contexts": "context.jsonl",
                "references": "answers_gpt4.jsonl",
                "images": "images/",
            }
        },
        read=read_llava_bench,
        prompts=open_answers(),
        metric="llava_bench:judged",
        judged=True,
        source="Liu et al. (2023)",
        notes=("a judge's score relative to that of GPT-4's answers",),
    ),
    Benchmark(
        name="mm_vet",
        title="MM-Vet",
        group="open dialogue",
        splits={"test": {"questions": "mm-vet.json", "images": "images/"}},
        read=read_mm_vet,
        prompts=open_answers(),
        metric="mm_vet:judged",
        judged=True,
        source="Yu et al. (2023)",
        notes=("the paper averages five runs of its judge; this is one",),
    ),
)
