"""Baselines that see less, and what released weights have seen."""

import json
from dataclasses import replace

import pytest

import zoo
from zoo.cli import main
from zoo.data.sample import Medium, Message, Sample
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.registry import BENCHMARKS
from zoo.evaluation.controls import prior_answers, prior_score, question_type, shuffled, with_controls
from zoo.evaluation.held import SAME_MEDIA, TRAINING_SPLITS, held, held_notes
from zoo.evaluation.items import Item
from zoo.evaluation.leaderboard import leaderboard
from zoo.evaluation.summary import summarise
from zoo.evaluation.table import render_markdown, render_table
from zoo.evaluation.tasks import load_items
from zoo.factory import build_model, configure
from zoo.registry import entries, schema_errors


def item(number, question, answer, image=None, **info):
    media = () if image is None else (Medium(kind="image", source=image, name=image),)
    content = f"<image>\n{question}" if media else question
    sample = Sample(
        id=str(number),
        messages=(Message(role="user", content=content),),
        media=media,
        group=image or str(number),
        info=info,
    )
    return Item(sample=sample, task="t", metric="exact_match", references=(answer,))


def test_every_question_gets_one_other_image_and_images_are_given_once():
    items = [item(at, "what?", "a", f"{at // 3}.png") for at in range(30)]
    moved = shuffled(items)
    given = {}
    for old, new in zip(items, moved, strict=True):
        assert new.sample.media[0].name != old.sample.media[0].name
        assert replace(new.sample, media=old.sample.media) == old.sample, "nothing but the media moves"
        given.setdefault(old.sample.group, set()).add(new.sample.media[0].name)
    assert all(len(names) == 1 for names in given.values()), "questions on one image stay together"
    assert {name for names in given.values() for name in names} == {f"{at}.png" for at in range(10)}
    assert shuffled(items) == moved and shuffled(items, seed=1) != moved


def test_media_go_where_as_many_of_their_kind_are_asked_for():
    video = (Medium(kind="video", source="v", name="v"), Medium(kind="video", source="w", name="w"))
    items = [item(0, "a?", "a", "0.png"), item(1, "b?", "b", "1.png"), item(2, "c?", "c")]
    for name, medium in zip("34", video, strict=True):
        sample = replace(items[2].sample, id=name, group=name, media=(medium,))
        items.append(replace(items[2], sample=sample))
    names = [[medium.name for medium in one.sample.media] for one in shuffled(items)]
    assert names == [["1.png"], ["0.png"], [], ["w"], ["v"]]
    with pytest.raises(ZooError, match="no other to show"):
        shuffled(items[:1])


def test_shuffled_images_of_scenes_can_be_asked_about():
    items = load_items("scenes:colour?num_items=6&image_size=32")
    assert all(new.sample.validate() for new in shuffled(items))


def test_prior_is_the_most_frequent_training_answer_of_the_questions_type():
    training = [
        item(0, "What colour is it?", "red"),
        item(1, "What colour are they?", "blue"),
        item(2, "What colour was it?", "blue"),
        item(3, "Is there a cube?", "yes"),
        item(4, "Is there a ball?", "yes"),
        item(5, "Is there a cone?", "yes"),
    ]
    asked = [item(6, "What colour?", "blue", "x.png"), item(7, "Is there one?", "no"), item(8, "How many?", "3")]
    assert prior_answers(asked, training) == ["blue", "yes", "yes"]
    assert prior_score(asked, training) == pytest.approx(1 / 3)
    assert question_type(asked[0]) == "what colour"
    assert question_type(item(9, "What colour?", "red", question_type="what color is")) == "what color is"
    with pytest.raises(ZooError, match="no answers in words"):
        prior_answers(asked, [replace(training[0], references=())])


def test_controls_stand_beside_the_scores():
    rows = [
        {"id": f"{at}", "group": f"{at}", "task": "t", "method": method, "seed": 0, "score": float(at % 3 > 0),
         "metric": "exact_match", "metric_version": "exact_match/1"}
        for method in ("blind", "llava") for at in range(12)
    ]  # fmt: skip
    moved = [row | {"score": float(row["id"] in "01")} for row in rows if row["method"] == "llava"]
    found = with_controls(summarise(rows, baseline="blind"), {"t": 0.31}, moved)
    assert found.results["llava", "t"].extra["shuffled"]["mean"] == pytest.approx(2 / 12)
    assert "shuffled" not in found.results["blind", "t"].extra
    assert found.rows()[0]["prior"] == 0.31
    for text in (render_table(found), render_markdown(found)):
        assert "prior 31.0" in text and "16.7 [" in text and "another item's image" in text
    assert "prior" not in render_table(summarise(rows, baseline="blind"))


def test_marks_follow_the_published_training_data():
    assert held("llava-1.5", "vqav2").mark == "held-in"
    assert held("llava-1.5", "vizwiz").mark == "held-out"
    assert "textcaps" in held("llava-1.5", "textvqa").reason
    assert held("instructblip", "gqa").mark == "held-out" and held("openflamingo", "vqav2").mark == "held-out"
    assert held("otter", "vqav2").mark == "unknown", "a list that is not complete proves nothing"
    assert held("blind", "vqav2").mark == "unknown"
    assert held("llava-1.5", "mme").reason == "the benchmark has no training split"
    with pytest.raises(ZooError, match="Did you mean 'vqav2'"):
        held("llava-1.5", "vqa2")
    (line,) = held_notes(["llava-1.5", "openflamingo", "otter", "my own"], ["gqa", "gqa first 100", "colour"])
    assert line == "Released weights: gqa is held-in for llava-1.5; held-out for openflamingo; unknown for otter."


def test_every_benchmark_has_its_training_split_and_every_list_is_well_formed():
    assert set(TRAINING_SPLITS) <= set(BENCHMARKS)
    assert {name for name, benchmark in BENCHMARKS.items() if benchmark.train} <= set(TRAINING_SPLITS)
    assert {name for names in SAME_MEDIA.values() for name in names} <= set(TRAINING_SPLITS)
    facts = entries()["llava-1.5"]
    assert not schema_errors("llava-1.5", facts)
    assert schema_errors("llava-1.5", facts | {"trained_on": {"data": ["gqa"]}})


def test_held_and_plan_commands(capsys):
    assert main(["held", "llava-1.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gqa"]["mark"] == "held-in"
    assert main(["held", "lava"]) == 2
    capsys.readouterr()
    assert main(["plan", "--items", "2181", "--seed-deviation", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["minimum_detectable_effect"] == pytest.approx(0.03, rel=2e-3)
    assert main(["plan", "--task", "scenes:colour?num_items=40", "--seeds", "3"]) == 0
    assert "40 items in 40 clusters, 3 seeds" in capsys.readouterr().out
    for words in ([], ["--items", "5", "--clusters", "9"], ["--setting", "scenes-tiny", "--task", "scenes:colour"]):
        assert main(["plan", *words]) == 2
        assert capsys.readouterr().err.startswith("zoo: error: ")


def test_evaluation_on_shuffled_images_is_kept_apart(tiny_setting, tmp_path):
    model = build_model(configure("llava-1.5", tiny_setting)).eval()
    spec = ["scenes:existence?num_items=4&image_size=32"]
    plain = zoo.evaluate(model, spec, out=tmp_path)
    moved = zoo.evaluate(model, spec, out=tmp_path, shuffle_media=True)
    assert [row["prompt"] for row in plain] == [row["prompt"] for row in moved]
    assert {row["method"] for row in moved} == {"llava-1.5, shuffled"}
    found = leaderboard([tmp_path, tmp_path / "controls" / "shuffled"])
    assert found.methods == ("llava-1.5", "llava-1.5, shuffled")
    assert found.results["llava-1.5, shuffled", "existence"].difference is not None
