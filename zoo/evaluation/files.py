"""Readers of public evaluation files to lists of items: VQAv2, POPE, MME, COCO captions, RefCOCO, ActivityNet-QA.

The true files load unchanged. Every reader checks that the image or video of an item is there, groups items by it, and
raises ZooError with the file and the entry where something is missing or malformed. ``instruction`` is a line put below
each question ("Answer the question using a single word or phrase."), empty by default.
"""

from pathlib import Path
from typing import Any

from zoo.data.media import FRAME_SUFFIXES, VIDEO_SUFFIXES
from zoo.data.sample import Box, Medium, Message, Sample
from zoo.errors import ZooError
from zoo.evaluation.entries import get_value, iterate_entries, load_plain_pickle, read_text
from zoo.evaluation.items import Item

VQA_IMAGE_PATTERN = "COCO_val2014_{image_id:012d}.jpg"
CAPTION_QUESTION = "Provide a one-sentence caption for the provided image."
REFERRING_QUESTION = "Please provide the bounding box coordinate of the region this sentence describes: {phrase}"


def read_vqa(
    questions_json: str | Path,
    annotations_json: str | Path,
    image_root: str | Path,
    image_pattern: str = VQA_IMAGE_PATTERN,
    *,
    task: str = "vqa",
    instruction: str = "",
) -> list[Item]:
    """VQAv2 layout: ``questions`` and ``annotations`` joined on ``question_id``.

    The reference is ``multiple_choice_answer``, the majority of the ten answers, scored by exact_match; this is
    stricter than the official soft accuracy. The ten answers are kept in ``sample.info["answers"]``. ``image_pattern``
    is a format string of ``image_id``.
    """
    annotations = {}
    for where, entry in iterate_entries(annotations_json, "annotations"):
        annotations[get_value(entry, "question_id", (int, str), where)] = (where, entry)
    images = _Images(image_root)
    items = []
    for where, entry in iterate_entries(questions_json, "questions"):
        question_id = get_value(entry, "question_id", (int, str), where)
        image_id = get_value(entry, "image_id", (int, str), where)
        if question_id not in annotations:
            raise ZooError(
                f"{where}: question_id {question_id!r} has no annotation in {annotations_json}; add it there"
            )
        note_at, note = annotations[question_id]
        answers = [get_value(answer, "answer", str, note_at) for answer in get_value(note, "answers", list, note_at)]
        try:
            name = image_pattern.format(image_id=image_id)
        except (ValueError, KeyError, IndexError) as error:
            raise ZooError(
                f"{where}: image pattern {image_pattern!r} does not fit image_id {image_id!r}: {error}"
            ) from error
        items.append(
            Item(
                sample=_sample(
                    f"{task}-{question_id}",
                    get_value(entry, "question", str, where),
                    instruction,
                    images.find(name, where),
                    group=str(image_id),
                    info={"answers": tuple(answers), "question_type": note.get("question_type")},
                ),
                task=task,
                metric="exact_match",
                references=(get_value(note, "multiple_choice_answer", str, note_at),),
            )
        )
    return items


def read_pope(path: str | Path, image_root: str | Path, *, task: str = "pope", instruction: str = "") -> list[Item]:
    """POPE: objects ``{question_id, image, text, label}``, one a line (COCO) or in an array (A-OKVQA, GQA)."""
    images = _Images(image_root)
    items = []
    for where, entry in iterate_entries(path, None):
        name = get_value(entry, "image", str, where)
        sample_id = f"{task}-{get_value(entry, 'question_id', (int, str), where)}"
        medium = images.find(name, where)
        sample = _sample(sample_id, get_value(entry, "text", str, where), instruction, medium, group=name)
        items.append(_yes_no_item(sample, task, get_value(entry, "label", str, where), where))
    return items


def read_mme(path: str | Path, image_root: str | Path, *, task: str | None = None, instruction: str = "") -> list[Item]:
    """One MME subtask: lines of image, question and Yes or No between tabs; a fourth column (a response) is not read.

    ``task`` defaults to ``mme_`` and the file's name.
    """
    task = task or f"mme_{Path(path).stem}"
    images = _Images(image_root)
    items = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        columns = line.split("\t")
        if len(columns) not in (3, 4):
            raise ZooError(f"{where} has {len(columns)} columns; MME lines are image, question, Yes|No between tabs")
        name, question, label = columns[:3]
        sample = _sample(f"{task}-{number}", question, instruction, images.find(name, where), group=name)
        items.append(_yes_no_item(sample, task, label.strip(), where))
    return items


def read_captions(
    coco_json: str | Path, image_root: str | Path, *, task: str = "captions", question: str = CAPTION_QUESTION
) -> list[Item]:
    """COCO captions: one item per entry of ``images``, its captions the references.

    The metric is named ``caption``: answers can be generated and stored, but no scorer of this package applies (exact
    match would call nearly every good caption wrong).
    """
    captions: dict[Any, list[str]] = {}
    for where, entry in iterate_entries(coco_json, "annotations"):
        captions.setdefault(get_value(entry, "image_id", (int, str), where), []).append(
            get_value(entry, "caption", str, where)
        )
    images = _Images(image_root)
    items = []
    for where, entry in iterate_entries(coco_json, "images"):
        image_id = get_value(entry, "id", (int, str), where)
        if image_id not in captions:
            raise ZooError(
                f"{where}: image {image_id!r} has no caption among the annotations; add one or drop the image"
            )
        medium = images.find(get_value(entry, "file_name", str, where), where)
        sample = _sample(f"{task}-{image_id}", question, "", medium, group=str(image_id))
        items.append(Item(sample=sample, task=task, metric="caption", references=tuple(captions[image_id])))
    return items


def read_refcoco(
    refs_pickle: str | Path,
    instances_json: str | Path,
    image_root: str | Path,
    split: str,
    *,
    task: str = "refcoco",
    question: str = REFERRING_QUESTION,
) -> list[Item]:
    """RefCOCO, RefCOCO+ and RefCOCOg: one item per sentence of ``split``, the box of its annotation the reference.

    The pickle may hold plain containers, text and numbers only; anything else is refused before it runs.
    """
    boxes = {
        get_value(entry, "id", int, where): _corners(get_value(entry, "bbox", list, where), where)
        for where, entry in iterate_entries(instances_json, "annotations")
    }
    names = {
        get_value(entry, "id", int, where): get_value(entry, "file_name", str, where)
        for where, entry in iterate_entries(instances_json, "images")
    }
    images = _Images(image_root)
    items, splits = [], set()
    for number, ref in enumerate(load_plain_pickle(refs_pickle)):
        where = f"{refs_pickle}: ref {number}"
        splits.add(get_value(ref, "split", str, where))
        if ref["split"] != split:
            continue
        image_id, ann_id = get_value(ref, "image_id", int, where), get_value(ref, "ann_id", int, where)
        for key, known, value in (("image_id", names, image_id), ("ann_id", boxes, ann_id)):
            if value not in known:
                raise ZooError(f"{where}: {key} {value} is not in {instances_json}; the two files must belong together")
        for sentence in get_value(ref, "sentences", list, where):
            sample = _sample(
                f"{task}-{get_value(ref, 'ref_id', int, where)}-{get_value(sentence, 'sent_id', int, where)}",
                question.format(phrase=get_value(sentence, "sent", str, where)),
                "",
                images.find(names[image_id], where),
                group=str(image_id),
            )
            items.append(Item(sample=sample, task=task, metric="box_iou", boxes=(boxes[ann_id],)))
    if not items:
        raise ZooError(f"{refs_pickle}: no sentence of split {split!r}; it has {', '.join(sorted(splits)) or 'none'}")
    return items


def read_video_qa(
    q_json: str | Path, a_json: str | Path, video_root: str | Path, *, task: str = "video_qa", instruction: str = ""
) -> list[Item]:
    """ActivityNet-QA layout: arrays of ``{video_name, question, question_id}`` and ``{question_id, answer, type}``.

    A video is a file or a folder of frames (in the order of their names) in ``video_root``, named ``video_name`` or
    ``v_`` and ``video_name``. The answer's ``type`` is kept in ``sample.info["type"]``.
    """
    answers = {}
    for where, entry in iterate_entries(a_json, None):
        answers[get_value(entry, "question_id", (int, str), where)] = (where, entry)
    videos = _videos(video_root)
    items = []
    for where, entry in iterate_entries(q_json, None):
        question_id = get_value(entry, "question_id", (int, str), where)
        if question_id not in answers:
            raise ZooError(f"{where}: question_id {question_id!r} has no answer in {a_json}; add it there")
        answer_at, answer = answers[question_id]
        name = get_value(entry, "video_name", str, where)
        medium = videos.get(name) or videos.get(f"v_{name}")
        if medium is None:
            raise ZooError(f"{where}: no video {name!r} in {video_root}; put a file or a folder of frames there")
        question = get_value(entry, "question", str, where)
        info = {"type": answer.get("type")}
        sample = _sample(f"{task}-{question_id}", question, instruction, medium, group=name, info=info)
        reference = str(get_value(answer, "answer", (str, int, float), answer_at))
        items.append(Item(sample=sample, task=task, metric="exact_match", references=(reference,)))
    return items


def _sample(
    sample_id: str, question: str, instruction: str, medium: Medium, *, group: str, info: dict[str, Any] | None = None
) -> Sample:
    text = "\n".join(part for part in (f"<{medium.kind}>", question.strip(), instruction) if part)
    message = Message(role="user", content=text)
    return Sample(id=sample_id, messages=(message,), media=(medium,), group=group, info=info or {}).validate()


def _yes_no_item(sample: Sample, task: str, label: str, where: str) -> Item:
    if label.lower() not in ("yes", "no"):
        raise ZooError(f"{where}: the label is {label!r}; it must be yes or no")
    return Item(sample=sample, task=task, metric="yes_no", references=(label.lower(),), candidates=("yes", "no"))


def _corners(bbox: list[Any], where: str) -> Box:
    if len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox) or min(bbox[2:]) < 0:
        raise ZooError(f"{where}: bbox {bbox} is not x, y, width, height in pixels")
    x, y, width, height = bbox
    return Box(x0=x, y0=y, x1=x + width, y1=y + height)


class _Images:
    """Images below a folder; each is looked for on the disk once, however many questions ask about it."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.found: dict[str, Medium] = {}

    def find(self, name: str, where: str) -> Medium:
        if name not in self.found:
            path = self.root / name
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ZooError(f"{where}: image {name!r} lies outside the image root; use names below {self.root}")
            if not path.is_file():
                raise ZooError(f"{where}: image {path} is missing; check the image root {self.root}")
            self.found[name] = Medium(kind="image", source=str(path), name=name)
        return self.found[name]


def _videos(root: str | Path) -> dict[str, Medium]:
    if not Path(root).is_dir():
        raise ZooError(f"video root {root} is not a folder; give the folder that holds the videos")
    videos: dict[str, Medium] = {}
    for path in sorted(Path(root).iterdir()):
        if path.is_dir():
            videos[path.name] = Medium(kind="video", source=str(path), name=path.name)
        elif path.suffix.lower() in VIDEO_SUFFIXES | FRAME_SUFFIXES:
            videos.setdefault(path.stem, Medium(kind="video", source=str(path), name=path.stem))
    return videos
