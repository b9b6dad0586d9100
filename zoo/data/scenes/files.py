"""The world written to disk in the public formats, so that the readers of the true data sets can be tried on it.

::

    train.json                          LLaVA JSON: image and video conversations, captions, regions ("boxes" in pixels)
    images/train, videos/train          PNG files; a video is a folder of numbered PNG frames
    images/test, videos/test            media of everything below, shared by all
    vqa/v2_OpenEnded_scenes_test_questions.json, vqa/v2_scenes_test_annotations.json
    pope/scenes_pope_{random,popular,adversarial}.json
    mme/{existence,count,position,color}.txt
    refcoco/refs(unc).p, refcoco/instances.json     splits val, testA (seen pairs), testB (unseen pairs)
    captions/captions_test.json                     five captions an image
    video_qa/test_q.json, video_qa/test_a.json      types 0 (motion), 2 (temporal), 7 (number)

Media are named by number in 12 digits: the ``image_id`` of VQA and captions.
"""

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.data.sample import Box, Medium, Sample
from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.items import items
from zoo.data.scenes.render import thing_box
from zoo.data.scenes.source import (
    INSTRUCT_TASKS,
    PROBE_TASKS,
    VIDEO_TASKS,
    SceneSource,
    scene_medium,
    stream_key,
    unseen_block,
)
from zoo.data.scenes.statements import STATEMENTS
from zoo.data.scenes.world import SHAPES, Scene, draw_scene
from zoo.errors import ZooError

ANSWER_TYPES = {"existence": "yes/no", "comparison": "yes/no", "count": "number"}
VIDEO_TYPES = {"motion_direction": 0, "event_order": 2, "event_count": 7}
NUM_ANSWERS = 10
NUM_PHRASES = 3
INFO = {"description": "synthetic scenes", "version": "1", "year": 2025, "contributor": "", "url": ""}
FILE_STREAMS = ("mme", "refcoco", "captions")


def write(
    directory: str | os.PathLike,
    *,
    num_train: int = 1000,
    num_eval: int = 200,
    image_size: int = 64,
    seed: int = 0,
    num_frames: int = 8,
) -> dict[str, int]:
    """Write everything below a new ``directory`` and return the number of entries of each file.

    ``num_train`` samples for training; ``num_eval`` questions, images or sentences of each kind and task for
    evaluation. The folder appears when it is complete; the same arguments give the same bytes.

    Raises:
        ZooError: the folder exists and is not empty, or an argument is out of range.
    """
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ZooError(f"{target} exists already; choose a new folder or empty it")
    if num_train < 1 or num_eval < 1:
        raise ZooError(f"scenes: num_train {num_train} and num_eval {num_eval} must be at least 1")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        writer = _Writer(partial, image_size, num_frames, seed)
        writer.train(num_train)
        writer.vqa(num_eval)
        writer.pope(num_eval)
        writer.mme(num_eval)
        writer.refcoco(num_eval)
        writer.captions(num_eval)
        writer.video_qa(num_eval)
        partial.chmod(0o755)
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return writer.counts


class _Writer:
    def __init__(self, root: Path, image_size: int, num_frames: int, seed: int) -> None:
        self.root, self.image_size, self.num_frames, self.seed = root, image_size, num_frames, seed
        self.counts: dict[str, int] = {}
        self.num_media: dict[str, int] = {}

    def train(self, number: int) -> None:
        source = SceneSource(
            "train", "mixture", number, self.seed, image_size=self.image_size, num_frames=self.num_frames
        )
        self._json("train.json", [self._record(sample) for sample in source], number)

    def vqa(self, number: int) -> None:
        questions: list[dict[str, Any]] = []
        annotations = []
        for task in INSTRUCT_TASKS:
            for item in items("test", task, number, self.seed, self.image_size):
                image_id, _ = self._save(item.sample.media[0], "test")
                (answer,) = item.references
                ids = {"question_id": image_id * 1000, "image_id": image_id}
                questions.append({**ids, "question": _question(item.sample)})
                annotations.append(
                    {
                        **ids,
                        "question_type": task,
                        "answer_type": ANSWER_TYPES.get(task, "other"),
                        "multiple_choice_answer": answer,
                        "answers": [
                            {"answer": answer, "answer_confidence": "yes", "answer_id": annotator}
                            for annotator in range(1, NUM_ANSWERS + 1)
                        ],
                    }
                )
        head = {"info": INFO, "data_type": "scenes", "data_subtype": "test", "license": {"name": "", "url": ""}}
        name = "vqa/v2_OpenEnded_scenes_test_questions.json"
        self._json(name, {**head, "task_type": "Open-Ended", "questions": questions}, len(questions))
        self._json("vqa/v2_scenes_test_annotations.json", {**head, "annotations": annotations}, len(annotations))

    def pope(self, number: int) -> None:
        for task in PROBE_TASKS:
            entries = []
            for item in items("test", task, number, self.seed, self.image_size):
                _, name = self._save(item.sample.media[0], "test")
                entries.append(
                    {
                        "question_id": len(entries) + 1,
                        "image": name,
                        "text": _question(item.sample),
                        "label": item.references[0],
                    }
                )
            text = "".join(json.dumps(entry) + "\n" for entry in entries)
            self._text(f"pope/scenes_pope_{task.removeprefix('probe_')}.json", text, len(entries))

    def mme(self, number: int) -> None:
        for kind, (task, make) in enumerate(STATEMENTS.items()):
            lines = []
            for index in range(max(1, number // 2)):
                draw = self._draw("mme", kind, index)
                scene, true, false = make(draw, f"mme/{task}/{index}", unseen_block("test", index))
                _, name = self._save(scene_medium(scene, self.image_size, self.num_frames), "test")
                for text, label in ((true, "Yes"), (false, "No")):
                    lines.append(f"{name}\t{text}{language.YES_OR_NO_SUFFIX}\t{label}")
            self._text(f"mme/{task}.txt", "".join(line + "\n" for line in lines), len(lines))

    def refcoco(self, number: int) -> None:
        refs: list[dict[str, Any]] = []
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        num_sentences = 0
        for kind, (split, world_split, unseen) in enumerate(
            (("val", "validation", False), ("testA", "test", False), ("testB", "test", True))
        ):
            for index in range(number):
                draw = self._draw("refcoco", kind, index, world_split)
                index_in_scene, phrases, scene = _referred(draw, f"refcoco/{split}/{index}", unseen)
                image_id, name = self._save(scene_medium(scene, self.image_size, self.num_frames), "test")
                size = {"height": self.image_size, "width": self.image_size}
                images.append({"id": image_id, "file_name": name, **size})
                first = len(annotations) + 1
                for thing in scene.things:
                    bbox = _bbox(thing_box(thing, self.image_size))
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": image_id,
                            "category_id": SHAPES.index(thing.shape) + 1,
                            "bbox": bbox,
                            "area": round(bbox[2] * bbox[3], 2),
                            "iscrowd": 0,
                            "segmentation": [],
                        }
                    )
                sentences = [
                    {"sent_id": num_sentences + position, "sent": text, "raw": text, "tokens": text.split()}
                    for position, text in enumerate(phrases)
                ]
                num_sentences += len(sentences)
                refs.append(
                    {
                        "ref_id": len(refs) + 1,
                        "ann_id": first + index_in_scene,
                        "category_id": SHAPES.index(scene.things[index_in_scene].shape) + 1,
                        "image_id": image_id,
                        "file_name": name,
                        "split": split,
                        "sent_ids": [sentence["sent_id"] for sentence in sentences],
                        "sentences": sentences,
                    }
                )
        categories = [{"id": number, "name": shape, "supercategory": "shape"} for number, shape in enumerate(SHAPES, 1)]
        content = {"info": INFO, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
        self._json("refcoco/instances.json", content, len(annotations))
        # Protocol 2 is what the published files use; older readers know no later one.
        (self.root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
        self.counts["refcoco/refs(unc).p"] = num_sentences

    def captions(self, number: int) -> None:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(number):
            scene = draw_scene(
                self._draw("captions", 0, index), f"captions/{index}", unseen=unseen_block("test", index)
            )
            image_id, name = self._save(scene_medium(scene, self.image_size, self.num_frames), "test")
            images.append({"id": image_id, "file_name": name, "height": self.image_size, "width": self.image_size})
            for caption in language.captions(scene, "full"):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, "caption": caption})
        content = {"info": INFO, "licenses": [], "images": images, "annotations": annotations}
        self._json("captions/captions_test.json", content, len(images))

    def video_qa(self, number: int) -> None:
        questions: list[dict[str, Any]] = []
        answers = []
        for task in VIDEO_TASKS:
            for item in items("test", task, number, self.seed, self.image_size, self.num_frames):
                _, name = self._save(item.sample.media[0], "test")
                question_id = f"v_{name}_0"
                questions.append({"video_name": name, "question": _question(item.sample), "question_id": question_id})
                answers.append({"answer": item.references[0], "type": VIDEO_TYPES[task], "question_id": question_id})
        self._json("video_qa/test_q.json", questions, len(questions))
        self._json("video_qa/test_a.json", answers, len(answers))

    def _draw(self, stream: str, kind: int, index: int, split: str = "test") -> Draw:
        return Draw(*stream_key("files", split, self.seed), FILE_STREAMS.index(stream), kind, index)

    def _record(self, sample: Sample) -> dict[str, Any]:
        (medium,) = sample.media
        _, name = self._save(medium, "train")
        record: dict[str, Any] = {"id": sample.id, medium.kind: f"{medium.kind}s/train/{name}"}
        if sample.boxes:
            record["boxes"] = [[round(value, 2) for value in (box.x0, box.y0, box.x1, box.y1)] for box in sample.boxes]
        record["conversations"] = [
            {"from": "human" if message.role == "user" else "gpt", "value": message.content}
            for message in sample.messages
        ]
        return record

    def _save(self, medium: Medium, split: str) -> tuple[int, str]:
        """Render to the next number; returns the number and the name below ``images/split`` or ``videos/split``."""
        number = self.num_media.get(split, 0) + 1
        self.num_media[split] = number
        folder = self.root / f"{medium.kind}s" / split
        if medium.kind == "image":
            name = f"{number:012d}.png"
            _save_png(medium.source(), folder / name)
        else:
            name = f"{number:012d}"
            for frame, image in enumerate(medium.source()):
                _save_png(image, folder / name / f"{frame:02d}.png")
        return number, name

    def _json(self, name: str, content: Any, count: int) -> None:
        self._text(name, json.dumps(content) + "\n", count)

    def _text(self, name: str, content: str, count: int) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        self.counts[name] = count


def _referred(draw: Draw, name: str, unseen: bool) -> tuple[int, list[str], Scene]:
    """An object that words alone single out, with up to three phrases for it."""
    while True:
        scene = draw_scene(draw, name, unseen=unseen)
        index = scene.focus if unseen else draw.below(len(scene.things))
        phrases: Sequence[str] = [text for text, _ in language.references(scene, index, places=False)]
        if phrases:
            return index, draw.sample(phrases, min(NUM_PHRASES, len(phrases))), scene


def _question(sample: Sample) -> str:
    return sample.messages[-1].content.partition("\n")[2]


def _bbox(box: Box) -> list[float]:
    return [round(value, 2) for value in (box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0)]


def _save_png(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")
