"""MSVD-QA, MSRVTT-QA, ActivityNet-QA, MVBench and Video-ChatGPT's five aspects."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from zoo.data.sample import Medium
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Prompt, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.mvbench_files import TASKS, clip
from zoo.evaluation.benchmarks.prompts import LONG, instructblip, open_answers, short_answers
from zoo.evaluation.benchmarks.readers import joined, option_fields
from zoo.evaluation.decoding import Decoding
from zoo.evaluation.entries import get_value, iterate_entries, read_text

ASPECTS = ("correctness", "detail", "context", "temporal", "consistency")


def read_msvd(folder: Folder) -> Iterator[Question]:
    """MSVD-QA: videos are numbered, and the mapping file says which clip of YouTube's a number is."""
    clips = {}
    for line in read_text(folder.path("mapping")).splitlines():
        name, _, number = line.partition(" ")
        clips[number.strip().removeprefix("vid")] = name
    for where, entry in iterate_entries(folder.path("questions"), None):
        video = _number(entry, where)
        names = tuple(name for name in (clips.get(video), f"vid{video}") if name)
        yield _open_question(folder, entry, names, where)


def read_msrvtt(folder: Folder) -> Iterator[Question]:
    """MSRVTT-QA: video 7010 is the file ``video7010``."""
    for where, entry in iterate_entries(folder.path("questions"), None):
        yield _open_question(folder, entry, (f"video{_number(entry, where)}",), where)


def _number(entry: dict[str, Any], where: str) -> str:
    return str(get_value(entry, "video_id", (int, str), where)).removeprefix("video").removeprefix("vid")


def _open_question(folder: Folder, entry: dict[str, Any], names: tuple[str, ...], where: str) -> Question:
    answer = get_value(entry, "answer", str, where)
    return Question(
        key=str(get_value(entry, "id", (int, str), where)),
        fields={"question": get_value(entry, "question", str, where)},
        media=(folder.video(names, where),),
        group=names[0],
        annotation={"answer": answer, "question": entry["question"]},
        answers=(answer,),
    )


def read_activitynet(folder: Folder) -> Iterator[Question]:
    """ActivityNet-QA: questions and answers joined on ``question_id``."""
    files = folder.path("questions"), folder.path("answers")
    for (where, entry), (at, note) in joined(*files, (None, None), "question_id"):
        name = get_value(entry, "video_name", str, where)
        answer = str(get_value(note, "answer", (str, int, float), at))
        yield Question(
            key=str(entry["question_id"]),
            fields={"question": get_value(entry, "question", str, where)},
            media=(folder.video((name, f"v_{name}"), where),),
            group=name,
            annotation={
                "answer": answer,
                "question": entry["question"],
                "type": get_value(note, "type", (int, str), at),
            },
            answers=(answer,),
        )


def read_mvbench(folder: Folder) -> Iterator[Question]:
    """The twenty tasks; five of them ask about a part of the video."""
    for task in TASKS:
        for number, (where, entry) in enumerate(iterate_entries(folder.path(task.name), None)):
            name = get_value(entry, "video", str, where)
            options = [str(option) for option in get_value(entry, "candidates", list, where)]
            answer = str(get_value(entry, "answer", (str, int), where))
            if answer not in options:
                raise ZooError(f"{where}: the answer {answer!r} is not among its candidates; correct the annotation")
            right = option_fields(options)["bracketed_lines"].split("\n")[options.index(answer)]
            video = folder.video((name,), where, f"{task.name} videos")
            yield Question(
                key=f"{task.name}/{number}",
                fields={"question": get_value(entry, "question", str, where), **option_fields(options)},
                media=(_bounded(video, entry, task.frames_per_second, where) if task.has_bounds else video,),
                group=f"{task.videos}{name}",
                annotation={"candidates": options, "answer": answer, "task_type": task.name},
                answers=(right,),
            )


def _bounded(video: Medium, entry: dict[str, Any], rate: float | None, where: str) -> Medium:
    start, end = (float(get_value(entry, key, (int, float), where)) for key in ("start", "end"))
    if not 0 <= start < end:
        raise ZooError(f"{where}: the part from {start} to {end} s is empty; correct the annotation")
    source = partial(clip, Path(video.source), start, end, rate, where)
    return Medium(kind="video", source=source, name=f"{video.name} {start:g}-{end:g} s")


def read_video_chatgpt(folder: Folder) -> Iterator[Question]:
    """One of the three files; consistency asks each question in two wordings."""
    keys = ("Q1", "Q2") if folder.split == "consistency" else ("Q",)
    for number, (where, entry) in enumerate(iterate_entries(folder.path("questions"), None)):
        name = get_value(entry, "video_name", str, where)
        answer = get_value(entry, "A", str, where)
        asked = [get_value(entry, key, str, where) for key in keys]
        for at, question in enumerate(asked, start=1):
            yield Question(
                key=f"{number}/{at}" if len(asked) > 1 else str(number),
                fields={"question": question},
                media=(folder.video((name,), where),),
                group=name,
                annotation={"question": question, "answer": answer, "aspect": folder.split},
                answers=(answer,),
            )


def _video_prompts(question: str) -> dict[str, Prompt]:
    decoding = Decoding(max_new_tokens=30, min_new_tokens=1, num_beams=5, length_penalty=-1.0, repetition_penalty=1.5)
    return short_answers() | dict(instructblip(question, decoding))


def _video_qa(name: str, title: str, read: object, places: dict[str, str]) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        group="video",
        splits={
            split: {role: place.format(split=split) for role, place in places.items()}
            for split in ("test", "val", "train")
        },
        read=read,
        prompts=_video_prompts("Question: {question} Short Answer:"),
        metric="video_qa:exact",
        train="train",
        source="Xu et al. (2017)",
        notes=("video-chat papers report a judged accuracy (?metric=video_qa:judged), which is another quantity",),
    )


_ASPECT_FILES = {
    "correctness": "generic_qa.json",
    "detail": "generic_qa.json",
    "context": "generic_qa.json",
    "temporal": "temporal_qa.json",
    "consistency": "consistency_qa.json",
}

BENCHMARKS = (
    _video_qa(
        "msvd_qa",
        "MSVD-QA",
        read_msvd,
        {"questions": "{split}_qa.json", "mapping": "youtube_mapping.txt", "videos": "video/|videos/|YouTubeClips/"},
    ),
    _video_qa(
        "msrvtt_qa",
        "MSRVTT-QA",
        read_msrvtt,
        {"questions": "{split}_qa.json", "videos": "video/|videos/|TrainValVideo/|TestVideo/"},
    ),
    Benchmark(
        name="activitynet_qa",
        title="ActivityNet-QA",
        group="video",
        splits={
            split: {
                "questions": f"{split}_q.json|dataset/{split}_q.json",
                "answers": f"{split}_a.json|dataset/{split}_a.json",
                "videos": "videos/|all_test/",
            }
            for split in ("test", "val", "train")
        },
        read=read_activitynet,
        prompts=_video_prompts("Question: {question} Short Answer:"),
        metric="activitynet_qa:official",
        train="train",
        source="Yu et al. (2019)",
    ),
    Benchmark(
        name="mvbench",
        title="MVBench, twenty tasks",
        group="video",
        splits={
            "test": {task.name: f"json/{task.file}|{task.file}" for task in TASKS}
            | {f"{task.name} videos": f"video/{task.videos}|videos/{task.videos}|{task.videos}" for task in TASKS}
        },
        read=read_mvbench,
        prompts={
            "llava": Prompt(
                text="Question: {question}\nOptions:\n{bracketed_lines}\nOnly give the best option.",
                decoding=Decoding(max_new_tokens=100),
                processing="first line",
                source="OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb; nothing of the answer is written beforehand",
            )
        },
        metric="mvbench:robust",
        source="Li et al. (2024)",
        notes=(
            "the original system text is left out: a method keeps its own",
            "?metric=mvbench:official follows its rule, by which an empty answer is right",
        ),
    ),
    Benchmark(
        name="video_chatgpt",
        title="Video-ChatGPT's five aspects",
        group="video",
        splits={aspect: {"questions": _ASPECT_FILES[aspect], "videos": "Test_Videos/|videos/"} for aspect in ASPECTS},
        read=read_video_chatgpt,
        prompts=open_answers(LONG),
        metric="video_chatgpt:judged",
        judged=True,
        source="Maaz et al. (2023), quantitative_evaluation",
        notes=("each aspect is a split: ?split=detail; generic_qa.json serves three of them",),
    ),
)
