"""Few-shot items: which demonstrations are chosen, how they stand before the question, what is recorded of them."""

import dataclasses
import json

import pytest
import torch
from tiny import IMAGE_SIZE, conversation, image, picture

import zoo
from zoo.cli import main
from zoo.data.encode import IGNORED_LABEL
from zoo.data.sample import Box, Medium, Message, Sample
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.evaluation.few_shot import Shots, SupportPool, few_shot_items, image_features, split_shots
from zoo.evaluation.items import Item
from zoo.evaluation.runner import Decoding, Evaluator
from zoo.evaluation.tasks import load_items, load_support, support_spec
from zoo.factory import build_model, configure

QUESTION = "<image>\nWhat colour is the square?"
COLOUR_NAMES = ("red", "green", "blue", "white")
SIMILAR = Shots(num_shots=4, selection="similar")


@pytest.fixture(scope="module")
def model(tiny_setting):
    return build_model(configure("llava-1.5", tiny_setting)).eval()


def item(id, medium, *, group="", reference="red", **fields):
    sample = Sample(id=id, messages=(Message(role="user", content=QUESTION),), media=(medium,), group=group)
    return Item(
        sample=sample,
        task="colour",
        metric="exact_match",
        references=(reference,),
        candidates=("red", "blue"),
        **fields,
    )


@pytest.fixture(scope="module")
def queries():
    return [item(f"query-{number}", image(COLOUR_NAMES[number % 4], 100 + number)) for number in range(6)]


def support(num=20):
    return [
        item(f"shot-{number}", image(COLOUR_NAMES[number % 4], number), reference=COLOUR_NAMES[number % 4])
        for number in range(num)
    ]


@pytest.fixture(scope="module")
def pool(model):
    return SupportPool(model, support())


def chosen(items):
    return [item.sample.info["few_shot"]["demonstrations"] for item in items]


@pytest.mark.parametrize("selection", ["random", "similar"])
def test_demonstrations_stand_before_the_question(model, pool, queries, selection):
    shots = Shots(num_shots=4, selection=selection, seed=3)
    query = dataclasses.replace(
        queries[0].sample, messages=(Message(role="system", content="Be brief."), *queries[0].sample.messages)
    )
    (joined,) = few_shot_items([dataclasses.replace(queries[0], sample=query)], pool, shots)
    sample = joined.sample.validate()
    assert [message.role for message in sample.messages] == ["system", *["user", "assistant"] * 4, "user"]
    by_id = {demonstration.id: demonstration for demonstration in pool.samples}
    (ids,) = chosen([joined])
    assert len(set(ids)) == 4
    answers = [message for message in sample.messages if message.role == "assistant"]
    assert [message.content for message in answers] == [by_id[id].messages[1].content for id in ids]
    assert sample.media == (*(by_id[id].media[0] for id in ids), query.media[0])
    assert sample.id == "query-0" and joined.references == ("red",)
    assert joined.task == f"colour (4 shots, {selection})"
    answered = dataclasses.replace(sample, messages=(*sample.messages, Message(role="assistant", content="blue")))
    example = model.preprocessor()(answered, get_template("vicuna_v1"))
    supervised = example.ids[example.labels != IGNORED_LABEL]
    assert model.language_model.tokenizer.decode(supervised) == " blue</s>"
    assert int(example.media_mask.sum()) == 5 * 16


def test_a_random_draw_depends_on_seed_and_item_alone(model, pool, queries):
    first = chosen(few_shot_items(queries, pool, Shots(num_shots=4)))
    again = chosen(few_shot_items(queries[::-1], SupportPool(model, support()), Shots(num_shots=4)))[::-1]
    assert first == again and chosen(few_shot_items(queries[2:3], pool, Shots(num_shots=4))) == first[2:3]
    assert len({tuple(ids) for ids in first}) == len(queries)
    assert chosen(few_shot_items(queries, pool, Shots(num_shots=4, seed=1))) != first
    many = [item(f"q{number}", image("red", 0), group="own") for number in range(150)]
    counts = {}
    for ids in chosen(few_shot_items(many, pool, Shots(num_shots=4))):
        for id in ids:
            counts[id] = counts.get(id, 0) + 1
    # The image red0 is the queries' own; the other nineteen are drawn 31.6 times each, give or take five.
    assert "shot-0" not in counts and len(counts) == 19
    assert 10 < min(counts.values()) and max(counts.values()) < 55


def test_the_most_similar_stand_last(model, pool, queries):
    def features(samples):
        frames = [model.encoder.transform.apply(sample.media[0].source)[0] for sample in samples]
        with torch.no_grad():
            pooled = model.encoder(torch.stack(frames)).pooled
        return pooled / pooled.norm(dim=-1, keepdim=True)

    similarity = features([query.sample for query in queries]) @ features(pool.samples).T
    for row, ids in zip(similarity, chosen(few_shot_items(queries, pool, SIMILAR))):
        best = row.topk(4).indices.tolist()
        assert ids == [f"shot-{number}" for number in reversed(best)]


@pytest.mark.parametrize("selection", ["random", "similar"])
def test_the_querys_own_image_is_never_shown(model, queries, selection):
    """A copy of the query is the most similar there is, and is shown unless it is known to be the query's own image."""
    query = item("query", Medium(kind="image", source=queries[0].sample.media[0].source, name="mine"), group="scene")
    media = query.sample.media[0]
    copy = item("copy", dataclasses.replace(media, name="elsewhere"), group="other scene", reference="white")
    alike = [
        item("same group", dataclasses.replace(media, name="another"), group="scene"),
        item("same image", media, group="third scene"),
        item("query", dataclasses.replace(media, name="renamed"), group="fourth scene"),
    ]
    shots = Shots(num_shots=4, selection=selection)
    (ids,) = chosen(few_shot_items([query], SupportPool(model, [*alike, copy, *support(3)]), shots))
    assert set(ids) == {"copy", "shot-0", "shot-1", "shot-2"}
    if selection == "similar":
        assert ids[-1] == "copy"
    with pytest.raises(ZooError, match=r"'query'.* 4 demonstrations .* holds 6, 3 of them"):
        few_shot_items([query], SupportPool(model, [*alike, *support(3)]), shots)


def test_features_of_a_pool_are_computed_once(model, queries, monkeypatch):
    counted = []
    encoder_forward = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda pixels: counted.append(len(pixels)) or encoder_forward(pixels))
    pool = SupportPool(model, support())
    few_shot_items(queries, pool, Shots(num_shots=2))
    assert not counted
    few_shot_items(queries[:4], pool, SIMILAR)
    few_shot_items(queries[4:], pool, SIMILAR)
    assert sorted(counted) == [2, 4, 20]


def test_features_average_the_frames_of_a_video(model):
    frames = [picture("red"), picture("blue")]
    video = Sample(
        id="v",
        messages=(Message(role="user", content="<video>"),),
        media=(Medium(kind="video", source=[frame for frame in frames for _ in range(4)]),),
    )
    (feature,) = image_features(model, [video])
    with torch.no_grad():
        pooled = model.encoder(torch.stack([model.encoder.transform.apply(frame)[0] for frame in frames])).pooled
    assert torch.allclose(feature, pooled.mean(0) / pooled.mean(0).norm(), atol=1e-5)


def test_zero_shots(pool, queries):
    assert few_shot_items(queries, pool, Shots()) == queries
    shown = few_shot_items(queries, pool, Shots(zero_shot="text_only_demonstrations"))
    for query, joined in zip(queries, shown):
        contents = [message.content for message in joined.sample.validate().messages]
        assert contents[::2] == ["What colour is the square?"] * 2 + [QUESTION]
        assert joined.sample.media == query.sample.media
        assert joined.task == "colour (0 shots, text-only, random)"
    assert {len(ids) for ids in chosen(shown)} == {2}
    assert Shots(num_shots=1, zero_shot="text_only_demonstrations").num_demonstrations == 1


def test_samples_of_a_training_file_show_their_first_turn(model, queries):
    samples = [
        conversation(
            f"chat-{number}",
            [("<image>\nColour of <box>?", "White."), ("And <image>?", "<box> too.")],
            [image("white", 3 * number), image("red", 3 * number + 1)],
        )
        for number in range(2)
    ]
    boxes = (Box(x0=0, y0=0, x1=9, y1=9), Box(x0=1, y0=1, x1=5, y1=5, medium=1))
    samples = [dataclasses.replace(sample, boxes=boxes) for sample in samples]
    (joined,) = few_shot_items(queries[:1], SupportPool(model, samples), Shots(num_shots=2))
    assert len(joined.sample.validate().media) == 3
    assert [(box.x1, box.medium) for box in joined.sample.boxes] == [(9, 0), (9, 1)]
    with pytest.raises(ZooError, match=r"chat-.* has boxes"):
        few_shot_items(queries, SupportPool(model, samples), Shots(zero_shot="text_only_demonstrations"))
    with pytest.raises(ZooError, match="'text' has no image"):
        SupportPool(model, [conversation("text", [("Is water wet?", "Yes.")])])
    with pytest.raises(ZooError, match="'open' begins with roles"):
        SupportPool(model, [dataclasses.replace(samples[0], id="open", messages=samples[0].messages[:1])])
    with pytest.raises(ZooError, match="'query-0' has no answer"):
        SupportPool(model, [dataclasses.replace(queries[0], references=())])


def test_boxes_of_the_answer_keep_their_image(model):
    items = load_items("scenes:region_locate?num_items=3&image_size=32")
    pool = SupportPool(model, load_support("scenes:region_locate?split=train&num_items=6&image_size=32"))
    shown = few_shot_items(items, pool, Shots(num_shots=2))
    assert [box.medium for box in shown[0].sample.boxes] == [0, 1]
    assert shown[0].boxes == tuple(dataclasses.replace(box, medium=2) for box in items[0].boxes)
    rows = Evaluator(model, decoding=Decoding(max_new_tokens=4)).evaluate(shown)
    assert [row["group"] for row in rows] == [item.sample.group for item in items]


def test_methods_that_cannot_be_shown_demonstrations(tiny_setting, queries):
    single = SupportPool(build_model(configure("llava", tiny_setting)), support())
    with pytest.raises(ZooError, match="'llava' has no capability few_shot or multi_image"):
        few_shot_items(queries, single, SIMILAR)
    assert few_shot_items(queries, single, Shots(zero_shot="text_only_demonstrations"))
    blind = SupportPool(build_model(configure("blind", tiny_setting)), support())
    with pytest.raises(ZooError, match="'blind' has no encoder"):
        few_shot_items(queries, blind, SIMILAR)
    rows = Evaluator(blind.model, decoding=Decoding(max_new_tokens=2)).evaluate(
        few_shot_items(queries, blind, Shots(num_shots=2))
    )
    assert len(rows) == len(queries)


@pytest.mark.parametrize("mode", ["greedy", "likelihood"])
def test_rows_record_the_demonstrations(model, pool, queries, tmp_path, monkeypatch, mode):
    evaluator = Evaluator(model, decoding=Decoding(mode=mode, max_new_tokens=3), batch=4)
    shown = few_shot_items(queries, pool, Shots(num_shots=2, seed=5))
    rows = evaluator.evaluate(shown, tmp_path / "rows.jsonl")
    for row, ids in zip(rows, chosen(shown)):
        assert (row["shots"], row["selection"], row["zero_shot"], row["shot_seed"]) == (2, "random", "plain", 5)
        assert row["demonstrations"] == ids and row["prompt"].count("<image>") == 3
        assert row["task"] == "colour (2 shots, random)" and row["question"] == QUESTION
    assert evaluator.evaluate(shown, tmp_path / "rows.jsonl") == rows
    other = few_shot_items(queries, pool, Shots(num_shots=2, seed=6))
    with pytest.raises(ZooError, match="other demonstrations"):
        evaluator.evaluate(other, tmp_path / "rows.jsonl")
    monkeypatch.setattr(model.language_model.model.config, "max_position_embeddings", 100)
    with pytest.raises(ZooError, match=r"'query-.* has 100; use fewer shots"):
        evaluator.evaluate(other)
    evaluator.evaluate(queries)


def test_specs_of_tasks():
    default = Shots(num_shots=8)
    spec, shots = split_shots("scenes:colour?num_items=5&shots=4&selection=similar&seed=2", default)
    assert (spec, shots) == ("scenes:colour?num_items=5&seed=2", SIMILAR)
    assert split_shots("pope:what?.json?shots=0&zero_shot=text_only_demonstrations&shot_seed=3", default) == (
        "pope:what?.json",
        Shots(zero_shot="text_only_demonstrations", seed=3),
    )
    assert split_shots("scenes:colour?num_items=5", default) == ("scenes:colour?num_items=5", default)
    assert support_spec("scenes:colour?num_items=5&image_size=32") == (
        "scenes:colour?num_items=512&image_size=32&split=train"
    )
    with pytest.raises(ZooError, match="--shot-pool"):
        support_spec("pope:file.json")
    for spec, named in (("?shots=four", "'four'"), ("?selection=similiar", "similar"), ("?zero_shot=none", "plain")):
        with pytest.raises(ZooError, match=named):
            split_shots(f"scenes:colour{spec}", default)


def test_commands(model, data_file, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("zoo.api.load", lambda folder: model)
    monkeypatch.setattr("zoo.evaluation.tasks.NUM_SUPPORT", 12)
    size = f"num_items=4&image_size={IMAGE_SIZE}"
    words = ["evaluate", "run", "--task", f"scenes:colour?{size}", "--task", f"scenes:shape?{size}&shots=0"]
    words += ["--shots", "2", "--shot-selection", "similar", "--max-new-tokens", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "colour (2 shots, similar)" in printed and "16.7" in printed and "shape  " in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"colour_2_shots_similar.jsonl", "shape.jsonl"}
    row = json.loads((tmp_path / "out" / "colour_2_shots_similar.jsonl").read_text().splitlines()[0])
    assert all(id.startswith("scenes/train/") for id in row["demonstrations"])

    lines = [{"question_id": n, "image": f"{n}.png", "text": "Is it red?", "label": "yes"} for n in (0, 1)]
    (tmp_path / "pope.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = ["evaluate", "run", "--task", f"pope:{tmp_path}/pope.json?shots=1", "--media-root", str(data_file.parent)]
    assert main([*task, "--max-new-tokens", "2"]) == 2
    assert "--shot-pool" in capsys.readouterr().err
    records = [record for record in json.loads(data_file.read_text()) if "image" in record]
    (tmp_path / "support.json").write_text(json.dumps(records))
    rows = zoo.evaluate(
        model,
        [task[3]],
        media_root=str(data_file.parent),
        decoding=Decoding(max_new_tokens=2),
        shot_pool=str(tmp_path / "support.json"),
        shot_media_root=str(data_file.parent),
    )
    assert [row["shots"] for row in rows] == [1, 1]
    assert rows[0]["demonstrations"] != ["sample-0"] and rows[0]["demonstrations"][0].startswith("sample-")
