"""Evaluation items of the synthetic world: one question each, answers balanced given the words of the question."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache

from zoo.data.sample import Message, Sample
from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import MAKERS, PLANNERS, Question, Told, near_misses, pair_question
from zoo.data.scenes.render import check_image_size
from zoo.data.scenes.source import (
    INSTRUCT_TASKS,
    PROBE_TASKS,
    REGION_TASKS,
    UNPLANNED,
    VIDEO_TASKS,
    check_num_frames,
    planned_scene,
    question_boxes,
    scene_medium,
    stream_key,
    unseen_block,
)
from zoo.data.scenes.videos import MAX_MOVERS, NUM_MOVERS, VIDEO_MAKERS, draw_video
from zoo.data.scenes.world import CHANNELS, GRID, UNSEEN_PAIRS, Scene, draw_pair, draw_scene
from zoo.errors import ZooError, nearest
from zoo.evaluation.items import Item

TASKS = (*INSTRUCT_TASKS, *PROBE_TASKS, *REGION_TASKS, *VIDEO_TASKS)
YES_NO_TASKS = ("existence", "comparison", *PROBE_TASKS)
# Tasks whose answers take turns from item to item. The others draw theirs uniformly.
TURNS = {
    **dict.fromkeys(YES_NO_TASKS, language.YES_NO),
    "colour": CHANNELS["colour"],
    "shape": CHANNELS["shape"],
    "region_colour": CHANNELS["colour"],
    "region_shape": CHANNELS["shape"],
    "spatial": language.SIDES,
    "motion_direction": language.DIRECTIONS,
    "event_count": language.NUMBERS[: MAX_MOVERS + 1],
}
# An unseen pair fixes colour and shape, so these cannot take turns too.
FIXED_BY_PAIR = ("colour", "shape", "region_colour", "region_shape")
NUM_POPULAR = 8
POPULARITY_SCENES = 400


def candidates(task: str) -> tuple[str, ...]:
    """The closed answer set of a task; empty where it differs from item to item or the answer is a box."""
    check_task(task)
    return {"count": language.NUMBERS, "region_describe": language.DESCRIPTIONS}.get(task, TURNS.get(task, ()))


def chance(task: str) -> float:
    """The accuracy of the best guess from the question alone, as a fraction.

    For region_locate it is one in nine: a box of middling size in the centre of a cell hits every object of that cell.
    """
    check_task(task)
    if task in TURNS:
        return 1 / len(TURNS[task])
    return {
        "count": 1 / 4,
        "event_order": 1 / 2,
        "region_describe": 1 / len(language.DESCRIPTIONS),
        "region_locate": 1 / GRID**2,
    }[task]


def items(
    split: str, task: str, num_items: int, seed: int = 0, image_size: int = 64, num_frames: int = 4
) -> list[Item]:
    """The first ``num_items`` items of a task. ``item.sample.info["unseen"]`` marks those with an unseen pair."""
    check_task(task)
    check_image_size(image_size)
    check_num_frames(num_frames)
    return [_item(split, task, index, seed, image_size, num_frames) for index in range(num_items)]


def _item(split: str, task: str, index: int, seed: int, image_size: int, num_frames: int) -> Item:
    """Item number ``index``, which depends on nothing but these arguments."""
    draw = Draw(*stream_key("items", split, seed), TASKS.index(task), index)
    name = f"scenes/{split}/items/{seed}/{task}/{index}"
    answers = TURNS.get(task, ("",))
    unseen = unseen_block(split, index // len(answers))
    target = "" if unseen and task in FIXED_BY_PAIR else answers[index % len(answers)]
    scene, question = _ask(draw, name, task, unseen, target)
    medium = scene_medium(scene, image_size, num_frames)
    boxes = tuple(question_boxes(scene, question, image_size))
    locate = question.answer_box is not None
    return Item(
        sample=Sample(
            id=name,
            messages=(Message(role="user", content=f"<{medium.kind}>\n{question.text}"),),
            media=(medium,),
            boxes=() if locate else boxes,
            group=name,
            info={"unseen": scene.unseen, "task": task, "split": split},
        ),
        task=task,
        metric="box_iou" if locate else "yes_no" if task in YES_NO_TASKS else "exact_match",
        references=() if locate else (question.answer,),
        boxes=boxes if locate else (),
        candidates=question.candidates,
    )


def answered(item: Item) -> Sample:
    """The item's sample with its reference answer as the assistant's turn."""
    answer = "<box>" if item.boxes else item.references[0]
    messages = (*item.sample.messages, Message(role="assistant", content=answer))
    return replace(item.sample, messages=messages, boxes=(*item.sample.boxes, *item.boxes))


def check_task(task: str) -> None:
    """Raise ZooError for a task that the world does not have."""
    if task not in TASKS:
        raise ZooError(f"scenes: unknown task {task!r}.{nearest(task, TASKS)}")


@lru_cache(maxsize=1)
def popular_pairs() -> tuple[tuple[str, str], ...]:
    """The (colour, shape) pairs that occur most often in a fixed part of the training split, as POPE ranks objects."""
    counts: Counter[tuple[str, str]] = Counter()
    for index in range(POPULARITY_SCENES):
        scene = draw_scene(Draw(*stream_key("popular", "train", 0), index), "")
        counts.update((thing.colour, thing.shape) for thing in scene.things)
    ranked = sorted(counts, key=lambda pair: (-counts[pair], pair))
    return tuple(ranked[:NUM_POPULAR])


def _ask(draw: Draw, name: str, task: str, unseen: bool, target: str) -> tuple[Scene, Question]:
    """A scene and a question whose answer is ``target``, or any answer for the empty string.

    The form of the question is drawn once, before any scene is turned down: turning down changes no form's share.
    """
    planned = task in PLANNERS and not draw.coin(UNPLANNED[task])
    appear = task == "event_order" and draw.coin()
    asked = _probed(draw, task, unseen) if task in PROBE_TASKS else None
    while True:
        if task in VIDEO_MAKERS:
            movers = int(target) if task == "event_count" else draw.between(*NUM_MOVERS[task])
            scene = draw_video(draw, name, unseen=unseen, movers=movers, appear=appear)
            question = VIDEO_MAKERS[task](scene, draw, Told())
        elif planned:
            scene, maker = planned_scene(draw, name, unseen, task)
            question = maker(scene, draw, Told())
        else:
            scene = draw_scene(draw, name, unseen=unseen)
            question = _probe(scene, draw, task, asked) if asked else MAKERS[task](scene, draw, Told())
        if question is not None and target in ("", question.answer):
            return scene, question


def _probed(draw: Draw, task: str, unseen: bool) -> tuple[str, str]:
    if task == "probe_popular":
        return draw.choice(UNSEEN_PAIRS if unseen else popular_pairs())
    pair = draw_pair(draw, unseen=unseen)
    assert pair is not None
    return pair


def _probe(scene: Scene, draw: Draw, task: str, pair: tuple[str, str]) -> Question | None:
    """POPE's question (arXiv 2305.10355). The pair is drawn before the scene: each is there in half of its questions.

    POPE's adversarial negatives occur together with what is in the picture; here objects occur independently, and the
    lure is a colour and a shape that both are there, on different objects.
    """
    present = any((thing.colour, thing.shape) == pair for thing in scene.things)
    if task == "probe_adversarial" and not present and pair not in near_misses(scene):
        return None
    return pair_question(task, "probe", draw, present, pair)
