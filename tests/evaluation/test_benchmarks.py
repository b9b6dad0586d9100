"""Benchmarks from files in their official formats to figures, with a model that answers what a test says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from official_folders import FOLDERS, SIZE, box_text, picture, put, vqa

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.registry import get_benchmark, list_benchmarks
from zoo.evaluation.benchmarks.request import is_request, read_request
from zoo.evaluation.benchmarks.scoring import score_rows
from zoo.evaluation.benchmarks.styles import STYLES, style_of
from zoo.evaluation.metrics import get_metric
from zoo.evaluation.runner import Evaluator
from zoo.evaluation.tasks import load_items, support_spec
from zoo.factory import build_model, configure

JUDGED = [benchmark.name for benchmark in list_benchmarks() if benchmark.judged]


@pytest.fixture(scope="module")
def model(tiny_setting):
    return build_model(configure("llava-1.5", tiny_setting)).eval()


@pytest.fixture(scope="module")
def flamingo(tiny_setting):
    return build_model(configure("openflamingo", tiny_setting)).eval()


@pytest.fixture
def say(monkeypatch):
    """Makes every evaluator answer by the keys of the questions."""

    def patch(answers):
        def answer(evaluator, items):
            rows = []
            for item in items:
                said = answers[item.sample.info["benchmark"]["key"]]
                row = evaluator._row(item, SimpleNamespace(geometries=None), said)
                if evaluator.decoding.mode == "likelihood":
                    row["candidate_scores"] = {one: -1.0 if one == said else -2.0 for one in item.candidates}
                rows.append(row)
            return rows

        monkeypatch.setattr(Evaluator, "_greedy", answer)
        monkeypatch.setattr(Evaluator, "_likelihood", answer)

    return patch


def figures(model, spec, **options):
    found = {}
    rows = zoo.evaluate(model, [spec], on_result=found.__setitem__, **options)
    (result,) = found.values()
    return result, rows


def test_every_benchmark_is_declared_whole():
    names = [benchmark.name for benchmark in list_benchmarks()]
    assert sorted(FOLDERS) == sorted(set(names) - set(JUDGED))
    for benchmark in list_benchmarks():
        for style in STYLES:
            prompt = benchmark.prompt(style)
            metric = get_metric(prompt.metric or benchmark.metric)
            assert ":" in (prompt.metric or benchmark.metric) and prompt.source and metric.source
        assert benchmark.judged == (metric.variant == "judged")
        assert not benchmark.train or benchmark.train in benchmark.splits
        assert style_of("vicuna_v1") == "llava" and benchmark.source


# What right and wrong answers give by the metric's own unit; a caption's figure depends on the set.
BEST = {"vqa": 100, "gqa": 100, "scienceqa": 100, "seed_bench": 100, "mvbench": 100, "mme": 2800, "captions": None}


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_from_files_to_figures(name, model, say, tmp_path):
    said = FOLDERS[name](tmp_path)
    spec = f"{name}:{tmp_path}"
    say({key: right for key, (right, _) in said.items()})
    best, rows = figures(model, spec, out=tmp_path / "right")
    say({key: wrong for key, (_, wrong) in said.items()})
    worst, _ = figures(model, spec)
    expected = BEST.get(get_metric(best.metric).name, 1)
    if expected is None:
        assert best.value > 1 > worst.value == pytest.approx(0, abs=1e-6)
    else:
        assert (best.value, worst.value) == pytest.approx((expected, 0))
    assert best.metric == get_benchmark(name).prompt("llava").metric or get_metric(get_benchmark(name).metric).full_name
    assert all(row["metric"] == best.metric and row["benchmark"] == name for row in rows)
    kept = [json.loads(line) for file in (tmp_path / "right" / "answers").iterdir() for line in file.open()]
    assert {row["key"] for row in kept} == set(said)
    # Answers on the disk are enough to score again.
    assert score_rows(kept).value == best.value


def test_prompts_of_styles(tmp_path):
    FOLDERS["vqav2"](tmp_path)
    texts = {
        style: read_request(f"vqav2:{tmp_path}?style={style}").items()[0].sample.messages[-1].content
        for style in STYLES
    }
    assert texts["llava"] == "<image>\nWhat is number 1?\nAnswer the question using a single word or phrase."
    assert texts["instructblip"] == "<image>\nQuestion: What is number 1? Short answer:"
    assert texts["openflamingo"] == texts["plain"] == "<image>\nWhat is number 1?"
    (item,) = load_items(f"vqav2:{tmp_path}?limit=1", template="instructblip")
    assert item.sample.messages[-1].content == texts["instructblip"] and item.task == "vqav2 first 1"


def test_texts_around_questions(tmp_path):
    def first(name, **options):
        root = tmp_path / name
        FOLDERS[name](root)
        return load_items(f"{name}:{root}", **options)[0].sample.messages[-1].content

    short = "\nAnswer the question using a single word or phrase."
    letter = "\nAnswer with the option's letter from the given choices directly."
    assert first("mme") == "<image>\nIs there a dog?" + short
    assert first("textvqa_ocr") == "<image>\nWhat brand?\nReference OCR token: NOKIA, E7" + short
    assert first("scienceqa_img") == "<image>\nContext: Look.\nWhich?\nA. iron\nB. wood" + letter
    assert first("mmbench") == "<image>\nWhich colour?\nA. red\nB. blue\nC. green" + letter
    assert first("vizwiz").endswith("respond with 'Unanswerable'." + short)
    assert first("seed_bench_likelihood") == "<image>\nQuestion: How many?\nAnswer:"
    assert "\n(A) up\n(B) down\nOnly give" in first("mvbench")
    scienceqa = load_items(f"scienceqa_img:{tmp_path / 'scienceqa_img'}", template="instructblip")[0]
    assert scienceqa.sample.messages[-1].content.endswith("Question: Which? Options: (a) iron (b) wood. Answer:")


def test_circular_rotations_are_the_same_question(tmp_path, model, say):
    FOLDERS["mmbench"](tmp_path)
    items = load_items(f"mmbench:{tmp_path}")
    assert [item.references[0] for item in items] == ["A", "C", "B"]
    assert "A. blue\nB. green\nC. red" in items[1].sample.messages[-1].content
    say({"3": "A", "1000003": "A", "2000003": "B"})
    result, rows = figures(model, f"mmbench:{tmp_path}")
    assert (result.value, len(rows), rows[0]["score"], len(rows[0]["rotations"])) == (0, 1, 0, 3)
    vanilla, rows = figures(model, f"mmbench:{tmp_path}?metric=mmbench:vanilla")
    assert (vanilla.value, len(rows)) == (pytest.approx(2 / 3), 3)


def test_pope_says_each_category(tmp_path, model, say):
    said = FOLDERS["pope"](tmp_path)
    say({key: "Yes" if key.startswith("popular") else right for key, (right, _) in said.items()})
    result, rows = figures(model, f"pope:{tmp_path}")
    assert result.breakdown["random"]["f1"] == 1 and result.breakdown["popular"]["accuracy"] == 0.5
    one, _ = figures(model, f"pope:{tmp_path}?split=popular")
    assert (one.num_items, one.values["accuracy"], len({row["group"] for row in rows})) == (2, 0.5, 1)


def test_boxes_are_read_in_pixels_of_the_image(tmp_path, model, say):
    said = FOLDERS["refcoco"](tmp_path)
    say(dict.fromkeys(said, box_text(10, 10, 30, 26)))
    result, rows = figures(model, f"refcoco:{tmp_path}")
    assert result.values["mean_iou"] == pytest.approx(0.8, abs=0.02) and result.value == 1
    assert rows[0]["box"] == pytest.approx([10, 10, 30, 26], abs=0.5) and SIZE == (64, 48)
    assert rows[0]["fallbacks"] == ["box_out"]


def test_open_flamingo_cuts_answers(tmp_path, model, flamingo, say):
    FOLDERS["vqav2"](tmp_path)
    say(dict.fromkeys(("10", "20", "30"), "dog, small Question: what"))
    result, rows = figures(flamingo, f"vqav2:{tmp_path}?metric=vqa:open_flamingo")
    assert (result.value, result.metric, rows[0]["parsed"]) == (100, "vqa:open_flamingo", "dog")
    assert rows[0]["prompt"].endswith("<image>Question:What is number 1? Short answer:")
    assert rows[0]["decoding"].startswith("3 beams, length penalty 0, at most 5 new tokens")
    with pytest.raises(ZooError, match=r"style openflamingo .* does not fit template 'vicuna_v1'"):
        zoo.evaluate(model, [f"vqav2:{tmp_path}?style=openflamingo"])


def test_missing_files_are_named_together(tmp_path):
    put(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": []})
    with pytest.raises(ZooError) as error:
        load_items(f"vqav2:{tmp_path}")
    message = str(error.value)
    assert "lacks questions (v2_OpenEnded_mscoco_val2014_questions.json), images (val2014/ or" in message
    assert "lacks annotations" not in message and "annotations v2_mscoco_val2014_annotations.json" in message
    assert "\n" not in message
    with pytest.raises(ZooError, match="is not a folder; expected is one with questions"):
        load_items(f"vqav2:{tmp_path / 'nowhere'}")
    FOLDERS["vqav2"](tmp_path)
    (tmp_path / "val2014" / "COCO_val2014_000000000002.jpg").unlink()
    with pytest.raises(ZooError, match=r"questions\[1\]: image .*000000000002\.jpg is missing"):
        load_items(f"vqav2:{tmp_path}")
    with pytest.raises(ZooError, match=r"elsewhere/COCO_val2014_000000000001\.jpg is missing; check"):
        load_items(f"vqav2:{tmp_path}", media_root=str(tmp_path / "elsewhere"))


def test_media_may_lie_elsewhere(tmp_path):
    FOLDERS["gqa"](tmp_path / "files")
    (tmp_path / "files" / "images").rename(tmp_path / "pictures")
    items = load_items(f"gqa:{tmp_path / 'files'}", media_root=str(tmp_path / "pictures"))
    assert items[0].sample.media[0].source == str(tmp_path / "pictures" / "n1.jpg")


def test_bad_requests(tmp_path):
    FOLDERS["gqa"](tmp_path)
    for spec, message in (
        (f"gqa:{tmp_path}?splt=val", "unknown option 'splt'. Did you mean 'split'"),
        (f"gqa:{tmp_path}?split=tesdev", "gqa has no split 'tesdev'. Did you mean 'testdev'"),
        (f"gqa:{tmp_path}?style=lava", "unknown prompt style 'lava'. Did you mean 'llava'"),
        (f"gqa:{tmp_path}?metric=gqa:offical", "no variant 'offical'"),
        (f"gqa:{tmp_path}?limit=some", "limit is 'some'"),
        (f"gqaa:{tmp_path}", "unknown task .* Did you mean 'gqa'"),
    ):
        with pytest.raises(ZooError, match=message):
            load_items(spec)
    assert not is_request(f"pope:{put(tmp_path / 'p.json', '[]')}")


def test_few_shots_come_from_the_training_split(tmp_path, flamingo):
    FOLDERS["vqav2"](tmp_path)
    vqa("v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json", "train")(tmp_path)
    assert support_spec(f"vqav2:{tmp_path}?style=plain") == f"vqav2:{tmp_path}?split=train&style=plain"
    # The model itself: files, beams, demonstrations, figures.
    result, rows = figures(flamingo, f"vqav2:{tmp_path}?shots=1&selection=similar&limit=1")
    assert rows[0]["task"] == "vqav2 first 1 (1 shot, similar)" and result.num_items == 1
    assert "What is number" in rows[0]["prompt"] and "Short answer:a dog<|endofchunk|>\n" in rows[0]["prompt"]
    assert rows[0]["demonstrations"][0].startswith("vqav2-")


def test_parts_of_videos(tmp_path):
    from zoo.evaluation.benchmarks.mvbench_files import clip

    for at in range(12):
        put(tmp_path / f"{at:05d}.png", picture())
    assert [path.stem for path in clip(tmp_path, 1, 2, 3.0, "x")] == ["00003", "00004", "00005", "00006"]
    with pytest.raises(ZooError, match="12 frames at 3 a second, none from 9 to 10 s"):
        clip(tmp_path, 9, 10, 3.0, "x")
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for at in range(30):
            grey = np.full((32, 32, 3), 8 * at, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        file.mux(stream.encode())
    found = [image.getpixel((16, 16))[0] / 8 for image in clip(tmp_path / "a.mp4", 1.0, 1.5, None, "x")]
    assert found == pytest.approx([10, 11, 12, 13, 14, 15], abs=0.7)


def test_commands(tmp_path, model, say, monkeypatch, capsys):
    assert main(["benchmarks", "list"]) == 0
    listed = capsys.readouterr().out
    assert "vqav2 " in listed and "mmbench:circular" in listed and "(judged)" in listed
    assert main(["benchmarks", "show", "pope"]) == 0
    shown = capsys.readouterr().out
    for part in ("coco_pope_adversarial.json", "single word or phrase", "pope:official", "judge:   no"):
        assert part in shown
    assert main(["benchmarks", "show", "pop", "--json"]) == 2
    assert "Did you mean 'pope'" in capsys.readouterr().err
    monkeypatch.setattr("zoo.api.load", lambda folder: model)
    said = FOLDERS["hateful_memes"](tmp_path) | FOLDERS["gqa"](tmp_path)
    say({key: right for key, (right, _) in said.items()})
    words = ["evaluate", "run", "--task", f"hateful_memes:{tmp_path}", "--task", f"gqa:{tmp_path}"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "hateful_memes: roc_auc:official" in printed and "gqa: gqa:llava" in printed and "100.0 [" in printed
    assert json.loads((tmp_path / "out" / "gqa.metric.json").read_text())["value"] == 100
    assert not (tmp_path / "out" / "hateful_memes.jsonl").exists()
