import math
import pickle
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from zoo.data.open import open_data
from zoo.data.sample import PLACEHOLDER_PATTERN
from zoo.data.scenes import (
    TASKS,
    SceneSource,
    answered,
    candidates,
    cell_labels,
    chance,
    description,
    items,
    render_image,
    text_sample,
    vocabulary,
)
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import CHANNEL_OF
from zoo.data.scenes.videos import draw_video
from zoo.data.scenes.words import captions, facts, words
from zoo.data.scenes.world import COLOURS, SHAPES, SPLITS, UNSEEN_PAIRS, draw_scene
from zoo.errors import ZooError
from zoo.evaluation.metrics import iou

KINDS = ("instruct", "caption", "region", "video", "video_caption", "mixture")
FINGERPRINT = """
import hashlib
from zoo.data.scenes import SceneSource, items, text_sample
digest = hashlib.sha256()
for kind in ("instruct", "region", "video"):
    source = SceneSource("train", kind, 3, seed=5, image_size=32, num_frames=4)
    for sample in (source[2], source[0]):
        pixels = sample.media[0].source()
        for image in pixels if isinstance(pixels, list) else [pixels]:
            digest.update(image.tobytes())
        digest.update(repr((sample.id, sample.messages, sample.boxes, sample.media[0].name)).encode())
digest.update(repr([item.references for item in items("test", "spatial", 5)]).encode())
digest.update(repr(text_sample("train", 3).messages).encode())
print(digest.hexdigest())
"""


def fingerprint(hash_seed):
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_other_processes_make_the_same_bytes():
    assert fingerprint("1") == fingerprint("2")


def test_a_sample_depends_on_its_index_only():
    source = SceneSource("train", "mixture", 20)
    forwards = [source[index].messages for index in range(20)]
    assert [source[index].messages for index in reversed(range(20))] == forwards[::-1]
    assert SceneSource("train", "mixture", 20, seed=1)[0].messages != forwards[0]


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_valid_and_their_media_pickle(kind):
    source = SceneSource("test", kind, 24, image_size=32, num_frames=5)
    for sample in source:
        sample.validate()
        pixels = pickle.loads(pickle.dumps(sample.media[0].source))()
        frames = pixels if isinstance(pixels, list) else [pixels]
        assert len(frames) == (5 if sample.media[0].kind == "video" else 1)
        assert all(frame.size == (32, 32) and frame.mode == "RGB" for frame in frames)
        assert all(box.x1 <= 32 and box.y1 <= 32 for box in sample.boxes)
    assert len({sample.media[0].name for sample in source}) == 24


def test_tasks_of_several_kinds_are_mixed_by_weight():
    tasks = ("existence", "colour", "shape", "region_colour", "region_locate", "motion_direction")
    source = SceneSource("train", "instruct", 600, tasks=tasks)
    kinds = Counter(sample.id.split("/")[2] for sample in source)
    assert {name: round(number / 100) for name, number in kinds.items()} == {"instruct": 3, "region": 2, "video": 1}
    assert {task for sample in source for task in sample.info["tasks"]} == set(tasks)
    weighted = SceneSource("train", "instruct", 300, tasks=tasks, weights={"video": 3, "region": 1})
    kinds = Counter(sample.id.split("/")[2] for sample in weighted)
    assert set(kinds) == {"video", "region"} and 200 < kinds["video"] < 250
    again = SceneSource("train", "instruct", 8, tasks=tasks, weights={"video": 3, "region": 1})
    assert [sample.messages for sample in again] == [weighted[index].messages for index in range(8)]
    spec = "scenes:mixture?num_samples=40&tasks=region_describe&weights=caption:1,region:1,video_caption:0.5"
    mixed = [sample.info["tasks"] for sample in open_data(spec)]
    assert {task for named in mixed for task in named} == {"region_describe"} and () in mixed
    with pytest.raises(ZooError, match="KIND:SHARE"):
        open_data("scenes:mixture?weights=caption")


def test_splits_share_no_image_and_only_test_holds_unseen_pairs():
    images = defaultdict(set)
    for split in SPLITS:
        for sample in SceneSource(split, "instruct", 200, image_size=16):
            scene = sample.media[0].source.args[0]
            images[split].add(render_image(scene, 16).tobytes())
            pairs = [(thing.colour, thing.shape) for thing in scene.things]
            assert sample.info["unseen"] == any(pair in UNSEEN_PAIRS for pair in pairs)
            assert split == "test" or not sample.info["unseen"]
        for task in TASKS:
            marked = [item.sample.info["unseen"] for item in items(split, task, 48)]
            assert any(marked) == (split == "test")
    assert not images["train"] & images["validation"] and not images["train"] & images["test"]
    assert not images["validation"] & images["test"]


def blind_accuracy(train, test):
    """Naive Bayes on the words, and the majority answer of the same question text; the better one counts."""
    prior = Counter(answer for _, answer in train)
    with_word, by_text = defaultdict(Counter), defaultdict(Counter)
    for question, answer in train:
        by_text[question][answer] += 1
        for word in set(words(question)):
            with_word[answer][word] += 1
    known = {word for counts in with_word.values() for word in counts}

    def bayes(question):
        used = set(words(question)) & known
        return max(
            prior,
            key=lambda answer: (
                math.log(prior[answer]) + sum(math.log((with_word[answer][w] + 1) / (prior[answer] + 2)) for w in used)
            ),
        )

    def majority(question):
        counts = by_text[question]
        return (counts if sum(counts.values()) >= 20 else prior).most_common(1)[0][0]

    return max(sum(guess(q) == a for q, a in test) / len(test) for guess in (bayes, majority))


def asked(split, task, number):
    """(question, answer) pairs. Where the answer is one of the question's two phrases it becomes first or second."""
    pairs = []
    for item in items(split, task, number, seed=3):
        answer = item.references[0]
        if task == "event_order":
            answer = "first" if answer == item.candidates[0] else "second"
        pairs.append((item.sample.messages[0].content, answer))
    return pairs


@pytest.mark.parametrize("task", [task for task in TASKS if task != "region_locate"])
def test_blind_predictor_stays_near_chance(task):
    train = asked("train", task, 1000)
    # A thousand held-out questions keep the noise of a yes/no task near 1.6 points.
    held_out = asked("validation", task, 700) + asked("test", task, 300)
    assert blind_accuracy(train, held_out) < chance(task) + 0.05


def test_blind_predictor_fitted_on_conversations_stays_near_chance():
    turns = {"train": defaultdict(list), "validation": defaultdict(list)}
    for split, by_task in turns.items():
        for kind, number in (("instruct", 2400), ("region", 700), ("video", 1200)):
            for sample in SceneSource(split, kind, number):
                texts = [PLACEHOLDER_PATTERN.sub("", message.content).strip() for message in sample.messages]
                for task, question, answer in zip(sample.info["tasks"], texts[::2], texts[1::2]):
                    if task == "event_order":
                        answer = "first" if question.index(answer) < len(question) / 2 else "second"
                    if task != "region_locate":
                        by_task[task].append((question, answer))
    for task, train in turns["train"].items():
        held_out = turns["validation"][task]
        assert blind_accuracy(train, held_out) < chance(task) + 0.05, task


def test_a_turn_never_asks_about_what_an_earlier_turn_named():
    for sample in SceneSource("train", "instruct", 400):
        named = set()
        for number, task in enumerate(sample.info["tasks"]):
            question, answer = (sample.messages[2 * number + offset].content for offset in (0, 1))
            attributes = {word.rstrip("s") if word not in CHANNEL_OF else word for word in words(question)}
            attributes = {word for word in attributes if word in CHANNEL_OF}
            assert not attributes & named, (sample.id, task)
            named |= attributes | ({answer} & set(CHANNEL_OF))


def test_answers_are_true():
    for item in items("test", "count", 60):
        scene = item.sample.media[0].source.args[0]
        text = words(item.sample.messages[0].content)
        asked_words = [word.rstrip("s") if word.rstrip("s") in SHAPES else word for word in text]
        attributes = [word for word in asked_words if word in CHANNEL_OF]
        matching = [
            thing for thing in scene.things if all(getattr(thing, CHANNEL_OF[word]) == word for word in attributes)
        ]
        assert item.references == (str(len(matching)),)
    for item in items("test", "existence", 60):
        scene = item.sample.media[0].source.args[0]
        attributes = [word for word in words(item.sample.messages[0].content) if word in CHANNEL_OF]
        found = any(all(getattr(thing, CHANNEL_OF[word]) == word for word in attributes) for thing in scene.things)
        assert item.references == ("yes" if found else "no",)


def test_adversarial_negatives_touch_an_object_and_all_probes_are_half_yes():
    for task in ("probe_random", "probe_popular", "probe_adversarial"):
        probes = items("test", task, 100)
        assert sum(item.references == ("yes",) for item in probes) == 50
    for item in items("validation", "probe_adversarial", 100):
        scene = item.sample.media[0].source.args[0]
        attributes = [word for word in words(item.sample.messages[0].content) if word in CHANNEL_OF]
        assert any(attributes[0] == thing.colour or attributes[1] == thing.shape for thing in scene.things)


def test_rendered_pixels_carry_the_colour_and_the_box():
    for index in range(60):
        scene = draw_scene(Draw(9, index), "")
        pixels = np.asarray(render_image(scene, 96)).astype(int)
        blank = np.asarray(render_image(type(scene)("", (), scene.background), 96)).astype(int)
        painted = np.abs(pixels - blank).sum(axis=2) > 60
        inside = np.zeros_like(painted)
        for thing in scene.things:
            x0, y0, x1, y1 = (value * 96 for value in thing.extent())
            inside[int(y0) : math.ceil(y1) + 1, int(x0) : math.ceil(x1) + 1] = True
            region = painted[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)]
            # Light stripes may meet a light background; what is left still reaches three sides of the tight box.
            rows, columns = np.nonzero(region)
            assert columns.max() - columns.min() > 0.7 * (x1 - x0)
            assert rows.max() - rows.min() > 0.7 * (y1 - y0)
        assert not (painted & ~inside).any()


def test_cell_labels_name_the_object_of_every_cell():
    scene = draw_scene(Draw(4, 4), "")
    labels = cell_labels(scene, 3)
    by_cell = {thing.row * 3 + thing.column: thing for thing in scene.things}
    for cell, label in enumerate(labels):
        thing = by_cell.get(cell)
        expected = (0, 0) if thing is None else (1 + SHAPES.index(thing.shape), 1 + COLOURS.index(thing.colour))
        assert tuple(label[:2]) == expected
    fine = cell_labels(scene, 8)
    assert fine.shape == (64, 4) and {tuple(row) for row in fine} == {tuple(row) for row in labels}


def test_videos_hold_their_events():
    for index in range(80):
        scene = draw_video(Draw(2, index), "", movers=index % 4 or None)
        cells = [{(thing.column, thing.row)} for thing in scene.things]
        for thing, motion, cell in zip(scene.things, scene.motions, cells):
            cell.add((thing.column + motion.columns, thing.row + motion.rows))
            assert all(0 <= column < 3 and 0 <= row < 3 for column, row in cell)
        assert len(set().union(*cells)) == sum(map(len, cells))
        moving = sorted((motion.begin, motion.end) for motion in scene.motions if motion.direction)
        assert all(end <= begin + 1e-9 for (_, end), (begin, _) in pairwise(moving))


def test_one_object_moves_where_a_direction_is_asked():
    source = SceneSource("train", "instruct", 40, tasks=["motion_direction"])
    asked = [item.sample for item in items("validation", "motion_direction", 40)]
    for sample in (*source, *asked):
        scene = sample.media[0].source.args[0]
        assert sum(bool(motion.direction) for motion in scene.motions) == 1
        assert len(sample.media[0].source()) == 4


def test_cell_alone_gives_a_box_that_counts():
    for item in items("test", "region_locate", 200):
        (box,) = item.boxes
        column, row = (int((low + high) / 2 / 64 * 3) for low, high in ((box.x0, box.x1), (box.y0, box.y1)))
        x, y = ((cell + 0.5) / 3 * 64 for cell in (column, row))
        guess = replace(box, x0=x - 6.4, y0=y - 6.4, x1=x + 6.4, y1=y + 6.4)
        assert iou(guess, box) >= 0.5


def test_every_text_keeps_to_the_vocabulary():
    known = set(vocabulary())
    assert len(known) < 200
    texts = []
    for kind in KINDS:
        for sample in SceneSource("test", kind, 150):
            texts += [message.content for message in sample.messages]
    texts += [message.content for index in range(200) for message in text_sample("test", index).messages]
    for index in range(50):
        scene = draw_scene(Draw(1, index), "")
        texts += [description(scene), facts(scene, Draw(1, index)), *captions(scene, "full"), *captions(scene, "short")]
    for task in TASKS:
        texts += [option for option in candidates(task)]
    for text in texts:
        assert text.isascii() and text == text.lower()
        assert set(words(text)) <= known, text


def test_text_samples_state_the_facts_that_answer_the_question():
    for index in range(100):
        sample = text_sample("train", index).validate()
        stated, _, question = sample.messages[0].content.partition("\n")
        assert question and not sample.media
        for task, message in zip(sample.info["tasks"], sample.messages[1::2]):
            if task in ("colour", "shape"):
                assert message.content in words(stated)


def test_an_answered_item_is_a_sample():
    colour, located = (items("test", task, 1)[0] for task in ("colour", "region_locate"))
    assert answered(colour).validate().messages[-1].content == colour.references[0]
    assert answered(located).validate().messages[-1].content == "<box>" and answered(located).boxes == located.boxes


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: SceneSource("tset"), "test"),
        (lambda: SceneSource("train", "instrct"), "instruct"),
        (lambda: SceneSource("train", "video", num_frames=2), "num_frames 2"),
        (lambda: SceneSource("train", "caption", tasks=["motion_direction"]), "motion_direction"),
        (lambda: SceneSource("train", "video", tasks=["existence"]), "existence"),
        (lambda: SceneSource("train", tasks=["existence"], weights={"instruct": 1}), "weights"),
        (lambda: SceneSource("train", "mixture", weights={"regoin": 1}), "regoin"),
        (lambda: SceneSource("train", image_size=4), "image_size 4"),
        (lambda: items("test", "color", 1), "colour"),
        (lambda: items("test", "colour", 1, seed=-1), "negative"),
    ],
)
def test_bad_arguments_name_themselves(call, names):
    with pytest.raises(ZooError, match=names) as raised:
        call()
    assert "\n" not in str(raised.value)
