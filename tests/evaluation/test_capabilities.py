import dataclasses

import pytest

from zoo.data.sample import Box, Medium, Message, Sample
from zoo.errors import ZooError
from zoo.evaluation.capabilities import FALLBACKS, needs, refuse_missing, support, support_of_task
from zoo.evaluation.items import Item
from zoo.evaluation.summary import summarise
from zoo.evaluation.table import render_markdown, render_table
from zoo.registry import CAPABILITIES, entry, list_methods


def item(text, kinds=("image",), metric="exact_match", boxes=(), **info):
    media = tuple(Medium(kind=kind, source=None) for kind in kinds)
    messages = (Message(role="user", content=text),)
    return Item(sample=Sample(id="a", messages=messages, media=media, boxes=boxes, info=info), task="t", metric=metric)


def test_needs_are_read_off_the_item():
    assert needs(item("<image>\nwhat?")) == {"image"}
    assert needs(item("what?", ())) == set()
    assert needs(item("<image> or <image>?", ("image", "image"))) == {"image", "multi_image"}
    assert needs(item("<video>\nwhat?", ("video",))) == {"video"}
    assert needs(item("<image> in <box>?", boxes=(Box(x0=0, y0=0, x1=1, y1=1),))) == {"image", "region_in"}
    assert needs(item("<image> where?", metric="box_iou")) == {"image", "box_out"}
    shown = item("<image> <image>", ("image", "image"), few_shot={"shots": 1})
    assert needs(shown) == {"image", "few_shot"}


def test_support_follows_the_registry():
    assert entry("llava")["capabilities"] == ["image"]
    assert support("llava", {"image"}).fallbacks == support("llava", {"image"}).missing == ()
    assert support("llava", {"image", "video", "box_out"}).fallbacks == ("box_out", "video")
    assert support("llava", {"few_shot"}).missing == ("few_shot",)
    assert support("llava-1.5", {"few_shot"}).missing == ()
    assert support("blind", set(CAPABILITIES)) == support("blind", ())
    for method in list_methods():
        found = support(method, CAPABILITIES)
        assert set(found.fallbacks) <= set(FALLBACKS) and not set(found.missing) & set(FALLBACKS)
    together = support_of_task("llava", [item("<image>"), item("<video>", ("video",))])
    assert together.fallbacks == ("video",)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ZooError, match="llava cannot do task 't': it has no few_shot"):
        refuse_missing("llava", "t", support("llava", {"few_shot"}))


def rows(method, task, fallbacks):
    shared = {"task": task, "method": method, "seed": 0, "metric": "exact_match", "metric_version": "exact_match/1"}
    return [
        {**shared, "id": str(at), "group": str(at), "score": float(at % 3 == 0), "fallbacks": fallbacks}
        for at in range(9)
    ]


def test_tables_mark_fallbacks_and_leave_a_dash():
    predictions = rows("blind", "motion", []) + rows("llava", "motion", ["video"]) + rows("blind", "shots", [])
    impossible = {("llava", "shots"): "few_shot"}
    comparison = summarise(predictions, baseline="blind", impossible=impossible)
    assert [(row["method"], row["task"], row["fallbacks"]) for row in comparison.rows()] == [
        ("blind", "motion", []),
        ("llava", "motion", ["video"]),
        ("blind", "shots", []),
    ]
    text, markdown = render_table(comparison), render_markdown(comparison)
    motion = next(line for line in text.splitlines() if line.startswith("motion"))
    shots = next(line for line in text.splitlines() if line.startswith("shots"))
    assert motion.endswith("] a") and motion.count("] a") == 1 and shots.endswith("-")
    for printed in (text, markdown):
        assert f"a: {FALLBACKS['video']}." in printed and "-: llava has no few_shot for shots." in printed
    with pytest.raises(ZooError, match="'llava' has no predictions for task 'shots'"):
        summarise(predictions, baseline="blind")


def test_marks_are_in_the_order_of_their_letters():
    predictions = rows("blind", "t", []) + rows("llava", "t", ["box_out", "video"])
    comparison = summarise(predictions, baseline="blind")
    assert comparison.fallbacks == ("box_out", "video")
    assert "] ab" in render_table(comparison)
    assert dataclasses.replace(comparison, results={}).fallbacks == ()
