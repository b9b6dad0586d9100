"""Evaluation items from held-out pictures and clips."""

from dataclasses import replace

from zoo.data.pictures.index import SPLITS, Entry, entries
from zoo.data.pictures.questions import CAPTION_INSTRUCTIONS, MAKERS, NUM_OPTIONS, STAMPS, picture_medium
from zoo.data.pictures.source import STREAM, asked_sample, conversation, stream
from zoo.data.scenes.draw import Draw
from zoo.errors import ZooError, nearest
from zoo.evaluation.items import Item

# Captions are the stamps', which people wrote as sentences; clip art's are for training only.
CAPTION_TASKS = ("stamp_caption", "stamp_image_choice")
PICTURE_TASKS = (*CAPTION_TASKS, *MAKERS)
YES_NO_TASKS = ("yes_no", "canvas_yes_no")
# Images that a caption is to choose among.
NUM_IMAGES = 8
# Found on 400 items of the test split, over widths and heights: 80 x 98 pixels.
LOCATE_CHANCE = 0.165


def picture_chance(task: str) -> float | None:
    """The accuracy of guessing; None for captions. For boxes: the best size for all, in the middle of a random cell."""
    if task == "stamp_caption":
        return None
    if task == "canvas_locate":
        return LOCATE_CHANCE
    return 1 / NUM_IMAGES if task == "stamp_image_choice" else 1 / 2 if task in YES_NO_TASKS else 1 / NUM_OPTIONS


def picture_items(task: str, split: str = "test", num_items: int = 200, seed: int = 0) -> list[Item]:
    """The first ``num_items`` items; of captions as many as there are held-out ones, if those are fewer.

    ``stamp_caption``: a caption, scored by CIDEr-D. ``stamp_image_choice``: which of eight images a caption belongs to,
    by the loss of its tokens beside each. The others are those of ``questions.MAKERS``.

    Raises:
        ZooError: unknown task or split, or an asset that has not been fetched.
    """
    if task not in PICTURE_TASKS:
        raise ZooError(f"pictures: unknown task {task!r}.{nearest(task, PICTURE_TASKS)}")
    if task in CAPTION_TASKS:
        return _caption_items(task, split, num_items, seed)
    items = []
    for index in range(num_items):
        name = f"pictures/{split}/items/{seed}/{task}/{index}"
        # Items have draws of their own, far from those of training samples of the same split.
        asked = MAKERS[task](stream(task, split, seed, 10**9 + index), split, name)
        box = asked.answer_box
        items.append(
            Item(
                sample=asked_sample(name, asked, answered=False),
                task=task,
                metric="box_iou" if box is not None else "yes_no" if task in YES_NO_TASKS else "exact_match",
                references=() if box is not None else (asked.answer,),
                boxes=() if box is None else (box,),
                candidates=asked.candidates,
            )
        )
    return items


def _caption_items(task: str, split: str, num_items: int, seed: int) -> list[Item]:
    by_caption: dict[str, Entry] = {}
    for entry in entries(STAMPS, split):
        by_caption.setdefault(entry.caption, entry)
    draw = Draw(STREAM, seed, SPLITS.index(split), 0)
    chosen = draw.shuffled(list(by_caption.values()))[:num_items]
    if len(chosen) < NUM_IMAGES:
        raise ZooError(f"pictures: the {split} split has {len(chosen)} captions, {task} needs {NUM_IMAGES}")
    corpus = tuple((entry.caption,) for entry in chosen)
    items = []
    for index, entry in enumerate(chosen):
        sample = conversation(
            f"pictures/{split}/items/{seed}/{task}/{index}",
            picture_medium(entry),
            CAPTION_INSTRUCTIONS[0],
        )
        if task == "stamp_caption":
            # The weights of CIDEr's n-grams come from all references of the task.
            sample = replace(sample, info={"corpus": corpus, "index": index})
            items.append(Item(sample=sample, task=task, metric="cider", references=(entry.caption,)))
        else:
            others = [other for other in chosen if other is not entry]
            media = tuple(picture_medium(other) for other in draw.sample(others, NUM_IMAGES - 1))
            items.append(
                Item(sample=sample, task=task, metric="image_choice", references=(entry.caption,), other_media=media)
            )
    return items
