"""What is asked about pictures and clips: converted packages, splits, exact boxes, balanced answers, scores."""

import json
from collections import Counter

import numpy as np
import pytest
from packages import NUM_STAMPS, STAMP_FOLDERS, svg

from zoo.data.media import load_frames
from zoo.data.open import open_data
from zoo.data.pictures import PICTURE_TASKS, PictureSource, picture_chance, picture_items
from zoo.data.pictures.canvas import SIDE, draw_canvas
from zoo.data.pictures.index import SPLITS, entries, split_of
from zoo.data.pictures.questions import MAKERS, PICTURE_ASSETS
from zoo.data.scenes.draw import Draw
from zoo.errors import ZooError
from zoo.evaluation.image_choice import beside_each_medium, chosen
from zoo.evaluation.metrics import score
from zoo.evaluation.tasks import chance_levels, load_items, scene_specs
from zoo.packaged.pictures import clip_art_caption


def rows(folder, file="index.jsonl"):
    return [json.loads(line) for line in (folder / file).read_text().splitlines()]


class TestConverters:
    def test_stamps(self, pictures):
        found = rows(pictures / "stamps")
        assert len(found) == NUM_STAMPS * len(STAMP_FOLDERS)
        assert Counter(row["kind"] for row in found) == dict.fromkeys(STAMP_FOLDERS, NUM_STAMPS)
        row = next(row for row in found if row["source"] == "animals/birds/bird3")
        assert row["caption"] == "A small bird number 3."
        (image,) = load_frames(PictureSource("caption")._sample("caption", 0).media[0])
        assert image.mode == "RGB"
        left_out = {row["source"]: row["problem"] for row in rows(pictures / "stamps", "left_out.jsonl")}
        assert (
            left_out["animals/birds/silent"] == "no caption" and "cannot identify" in left_out["animals/birds/broken"]
        )
        assert (pictures / "stamps" / "COPYRIGHT").read_text() == "GPL-2"

    def test_clip_art(self, pictures):
        found = {row["source"]: row["caption"] for row in rows(pictures / "clip-art")}
        assert found == {"animals/birds/parrot": "green parrot", "animals/birds/other": "bird, yellow"}
        (left_out,) = rows(pictures / "clip-art", "left_out.jsonl")
        assert left_out == {"source": "animals/birds/large", "problem": "2500 x 2000 pixels"}

    @pytest.mark.parametrize(
        ("text", "caption"),
        [
            (svg("HASH(0x8ad)", ["HASH(0x1)", "cat"]), "cat"),
            (svg("cat by Jane Painter", ["cat"]), "cat by"),
            (svg("Кошка", []), ""),
            (b"<svg", ""),
            (b"<svg/>", ""),
        ],
    )
    def test_captions_of_clip_art(self, text, caption):
        assert clip_art_caption(text) == caption

    def test_clips(self, pictures):
        found = rows(pictures / "animated-emoji")
        assert len(found) == 40 and found[0]["caption"] == "red thing 0"
        assert [row["problem"] for row in rows(pictures / "animated-emoji", "left_out.jsonl")] == ["one frame"]
        medium = PictureSource("video_caption")[0].media[0]
        assert len(list(medium.source[0].parent.iterdir())) == 16
        # Sixteen moments of four frames, in order, of which a sample shows the first, the last and two between.
        assert [frame.getpixel((5, 5))[0] for frame in load_frames(medium)] == [0, 60, 120, 180]


def test_no_caption_is_in_two_splits(pictures):
    words = {
        split: {e.words.lower() for asset in (*PICTURE_ASSETS, "animated-emoji") for e in entries(asset, split)}
        for split in SPLITS
    }
    assert all(words[a].isdisjoint(words[b]) for a in SPLITS for b in SPLITS if a < b)
    assert len(words["train"]) > len(words["test"]) > 0
    assert split_of("A Red Fox.") == split_of("a red fox")
    with pytest.raises(ZooError, match=r"unknown split 'tset'\. Did you mean 'test'\?"):
        entries("stamps", "tset")


def test_boxes_are_where_the_pixels_are(pictures):
    chosen_entries = list(entries("stamps", "train")[::20][:3])
    canvas = draw_canvas(Draw(1, 2), chosen_entries)
    pixels = np.asarray(canvas.render()).astype(int)
    colour = {entry.kind: np.asarray(load_frames(_medium(entry))[0])[2, 2] for entry in chosen_entries}
    assert len(colour) == 3
    for number, entry in enumerate(chosen_entries):
        ys, xs = np.nonzero(np.abs(pixels - colour[entry.kind]).max(-1) <= 2)
        box = canvas.box(number)
        assert (box.x0, box.y0, box.x1, box.y1) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert box.x1 <= SIDE and box.y1 <= SIDE


def _medium(entry):
    from zoo.data.pictures.questions import picture_medium

    return picture_medium(entry)


def test_samples_are_the_same_every_time_and_valid(pictures):
    source = open_data("pictures:mixture?num_samples=60&seed=3")
    again = PictureSource(num_samples=60, seed=3)
    for index in range(60):
        sample = source[index].validate()
        assert sample.messages == again[index].messages and sample.boxes == again[index].boxes
        assert sample.messages[-1].role == "assistant"
    assert {source[i].id.split("/")[2] for i in range(60)} == {*MAKERS, "caption", "video_caption"}
    assert source[0].messages != PictureSource(num_samples=1, seed=4)[0].messages


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pictures:captoin", "unknown kind 'captoin'. Did you mean 'caption'?"),
        ("pictures:caption?image_size=4", "unknown option 'image_size'"),
        ("pictures:caption?weights=caption:1", "takes no weights"),
        ("pictures:mixture?weights=coption:1", "unknown kind 'coption' in weights. Did you mean 'caption'?"),
        ("pictures:caption?split=tests", "unknown split 'tests'. Did you mean 'test'?"),
    ],
)
def test_bad_specs(pictures, spec, message):
    with pytest.raises(ZooError) as caught:
        open_data(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("task", [task for task in PICTURE_TASKS if picture_chance(task)])
def test_items(pictures, task):
    found = load_items(f"pictures:{task}?num_items=80")
    assert {item.task for item in found} == {task} and len({item.sample.id for item in found}) == len(found)
    for item in found:
        item.sample.validate()
    if task in ("yes_no", "canvas_yes_no"):
        share = np.mean([item.references == ("yes",) for item in found])
        assert 0.35 < share < 0.65
    if item.candidates and task != "stamp_image_choice":
        assert all(item.references[0] in item.candidates for item in found)
        assert chance_levels([task]) == {task: 1 / len(found[0].candidates)}


def test_answers_do_not_depend_on_what_kinds_are_named(pictures):
    """Of a question's four kinds each is right equally often, whatever its place."""
    places = Counter(item.candidates.index(item.references[0]) for item in picture_items("category", num_items=400))
    assert all(70 <= places[place] <= 130 for place in range(4))


def test_caption_scores(pictures):
    items = picture_items("stamp_caption", num_items=10)
    own, other = items[0].references[0], "A large aeroplane in the sky."
    assert score(items[0], own).value == pytest.approx(1.0)
    assert score(items[0], other).value < 0.1 < score(items[0], own.replace("small", "big")).value < 1
    assert "stamp_caption" not in chance_levels(["stamp_caption"])


def test_image_choice(pictures):
    item = picture_items("stamp_image_choice", num_items=10)[0]
    samples = beside_each_medium(item)
    assert [sample.media for sample in samples] == [(medium,) for medium in (item.sample.media[0], *item.other_media)]
    assert {sample.messages[-1].content for sample in samples} == {item.references[0]}
    assert len({sample.media[0].name for sample in samples}) == 8
    assert chosen([2.0, 3.0, 2.0000001, 4.0]) == "0,2" and chosen([2.0, 1.0]) == "1"
    assert [score(item, best).value for best in ("0", "0,2", "3", "0,1,2,3,4,5,6,7")] == [1, 0.5, 0, 1 / 8]


def test_tasks_of_a_setting():
    assert scene_specs(("colour", "category"), 7, 3, 48) == [
        "scenes:colour?num_items=7&seed=3&image_size=48",
        "pictures:category?num_items=7&seed=3",
    ]
    with pytest.raises(ZooError, match=r"unknown task 'categry'\. Did you mean 'category'\?"):
        scene_specs(("categry",), 7, 3, None)
