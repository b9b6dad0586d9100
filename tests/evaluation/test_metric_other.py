"""Exact match, boxes, ROC-AUC, likelihood ranking, video questions. Expected values are worked out by hand."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from zoo.errors import ZooError
from zoo.evaluation.metrics import get_metric, list_metrics
from zoo.evaluation.metrics.boxes import choose_by_point, overlap
from zoo.evaluation.metrics.roc_auc import roc_auc

# Exact match


def test_gqa_variants():
    questions = {
        "1": {"answer": "yes", "isBalanced": True, "types": {"structural": "verify", "semantic": "obj"}},
        "2": {"answer": "red car", "isBalanced": True, "types": {"structural": "query", "semantic": "attr"}},
        "3": {"answer": "no", "isBalanced": False, "types": {"structural": "verify", "semantic": "obj"}},
    }
    said = [
        {"questionId": name, "prediction": text} for name, text in (("1", "Yes."), ("2", "the red car"), ("3", "x"))
    ]
    assert get_metric("gqa:official")(said, questions).values == {"accuracy": 0, "binary": 0, "open": 0}
    llava = get_metric("gqa:llava")(said, questions)
    assert llava.values == {"accuracy": 50, "binary": 100, "open": 0}
    assert llava.breakdown["structural"] == {"verify": 100, "query": 0}
    assert llava.notes == ("1 questions with isBalanced false are not counted",)
    assert get_metric("gqa:lavis")(said, questions).value == 100  # the article goes too
    assert get_metric("gqa:lmms_eval")(said, questions).value == 0.5  # case and marks, a fraction
    with pytest.raises(ZooError, match="missing: '3'"):
        get_metric("gqa")(said[:2], questions)


@pytest.mark.parametrize(
    ("variant", "said", "right"),
    [
        ("normalised", " Red. ", True),
        ("normalised", "the red", False),
        ("strict", "Red", False),
        ("vqa", "The red", True),
        ("vqa", "two", True),
        ("lmms_eval", "r-e-d!", True),
        ("contains", "It is a red, I think", True),
        ("contains", "hundred", False),
    ],
)
def test_exact_match_variants(variant, said, right):
    assert get_metric(f"exact_match:{variant}")({"1": said}, {"1": ["red", "2"]}).value == right


def test_pointqa_reads_the_stated_answer():
    references = [{"id": 1, "answer": "red"}]
    said = {"The answer is red .": 1, "red": 0, "The answer is red . The answer is red .": 0, "The answer is Red .": 0}
    for text, right in said.items():
        assert get_metric("pointqa")({"1": text}, references).value == right


# Boxes


def test_overlap_of_one_half_is_the_edge():
    # A half of the right box: IoU 0.5 exactly. Counting pixels: 3 * 2 / (3 * 3 + 3 * 2 - 6) = 2 / 3.
    references, said = {"1": [0, 0, 2, 2]}, {"1": [0, 0, 2, 1]}
    assert get_metric("iou:strict")(said, references).values == {"accuracy": 0, "mean_iou": 0.5}
    assert get_metric("iou:inclusive")(said, references).value == 1
    plus_one = get_metric("iou:plus_one")(said, references)
    assert plus_one.value == 1
    assert plus_one.values["mean_iou"] == pytest.approx(2 / 3)


def test_boxes_in_the_forms_of_published_files():
    # MiniGPT-v2 and COCO write x, y, width, height; Shikra corners; no box is wrong and stays in the denominator.
    minigpt = [{"img_id": "a", "sents": "s", "bbox": [10, 10, 10, 20], "height": 50, "width": 50}]
    assert get_metric("iou")([{"img_id": "a", "box": [10, 10, 20, 30]}], minigpt).values["mean_iou"] == 1
    coco = {"annotations": [{"id": 3, "image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 20]}]}
    assert get_metric("iou")({"3": [10, 10, 20, 30]}, coco).values["mean_iou"] == 1
    shikra = [{"img_path": "x.jpg", "expression": "dog", "bbox": [10, 10, 20, 30], "width": 50, "height": 50}] * 2
    result = get_metric("iou")([[10, 10, 20, 30], None], shikra)
    assert result.values == {"accuracy": 0.5, "mean_iou": 0.5}
    assert "1 predictions without a box" in result.notes[0]
    with pytest.raises(ZooError, match="give boxes in pixels"):
        get_metric("iou:plus_one")({"1": [0, 0, 0.5, 0.5]}, {"1": [0, 0, 1, 1]})
    with pytest.raises(ZooError, match="not a box of four numbers"):
        get_metric("iou")({"1": [0, 0, 1]}, {"1": [0, 0, 1, 1]})


@settings(max_examples=50)
@given(*[st.floats(0, 1).map(lambda value: round(value, 3))] * 8)
def test_counting_pixels_makes_boxes_between_0_and_1_overlap_more(a, b, c, d, e, f, g, h):
    first, second = (min(a, c), min(b, d), max(a, c), max(b, d)), (min(e, g), min(f, h), max(e, g), max(f, h))
    assert overlap(first, second, extra=1) >= overlap(first, second) - 1e-12
    assert overlap(first, second) == overlap(second, first)


def test_pointing_chooses_a_candidate():
    candidates = [[0, 0, 10, 10], [20, 0, 30, 10], [2, 2, 6, 6]]
    references = [{"question": "q", "candidates": candidates, "answer": [2, 2, 6, 6]}] * 4
    boxes = [[1, 1, 6, 6], [0, 0, 9, 9], None, [50, 50, 60, 60]]  # the last overlaps none
    result = get_metric("pointing:box")(boxes, references)
    assert result.value == 0.25
    assert "2 predictions choose no candidate" in result.notes[0]
    # Inside two candidates the smaller one is meant; outside all of them the nearest edge.
    assert choose_by_point((4, 4), candidates) == 2
    assert choose_by_point((16, 5), candidates) == 1
    points = get_metric("pointing:point")([[4, 4], [8, 8], [19, 5], None], references)
    assert points.value == 0.25
    with pytest.raises(ZooError, match="not among its candidates"):
        get_metric("pointing")([[0, 0, 1, 1]], [{"candidates": candidates, "answer": [1, 1, 2, 2]}])


# ROC-AUC


def test_roc_auc_by_hand(tmp_path):
    # Positives 0.9 and 0.4, negatives 0.4 and 0.1: pairs won 1, 1, a tie of 1 / 2, 1: 3.5 of 4.
    (tmp_path / "labels.jsonl").write_text(
        "".join(json.dumps({"id": at, "img": "x", "label": label}) + "\n" for at, label in enumerate([1, 1, 0, 0]))
    )
    (tmp_path / "submission.csv").write_text("id,proba,label\n0,0.9,1\n1,0.4,0\n2,0.4,0\n3,0.1,0\n")
    result = get_metric("roc_auc")(tmp_path / "submission.csv", tmp_path / "labels.jsonl")
    assert result.values == {"roc_auc": 3.5 / 4, "accuracy": 0.75}
    with pytest.raises(ZooError, match="two classes"):
        get_metric("roc_auc")({"0": 0.5}, {"0": 1})


def test_roc_auc_of_class_names_takes_the_larger_name_for_positive():
    # Mean log-probabilities: item 1 yes -1, no -2; item 2 yes -3, no -1: yes is more likely in item 1.
    said = [
        {"id": 1, "log_probs": {"yes": [-1, -1], "no": [-2]}},
        {"id": 2, "log_probs": {"yes": [-3], "no": [-0.5, -1.5]}},
    ]
    assert get_metric("roc_auc:open_flamingo")(said, {"1": "yes", "2": "no"}).value == 1
    assert get_metric("roc_auc:open_flamingo")(said, {"1": "no", "2": "yes"}).value == 0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_roc_auc_is_mann_and_whitneys_statistic(items):
    positive, scores = [label for label, _ in items], [float(score) for _, score in items]
    if all(positive) or not any(positive):
        with pytest.raises(ZooError, match="both classes"):
            roc_auc(positive, scores)
        return
    high = [score for label, score in zip(positive, scores) if label]
    low = [score for label, score in zip(positive, scores) if not label]
    expected = stats.mannwhitneyu(high, low).statistic / (len(high) * len(low))
    assert roc_auc(positive, scores) == pytest.approx(expected, abs=1e-12)


# Likelihood ranking


def test_conventions_disagree():
    entry = {
        "id": 1,
        "candidates": ["yes", "not at all", "no"],
        "token_log_probs": [[-1.2], [-0.5, -0.6, -0.7], [-1.3]],
        "eos_log_probs": [-2.0, -0.1, -0.2],
        "unconditional_log_probs": [[-0.1], [-1, -1, -1], [-2.0]],
    }
    # sum: -1.2, -1.8, -1.3; mean: -1.2, -0.6, -1.3; by characters: -0.4, -0.18, -0.65; with the end: -3.2, -1.9, -1.5;
    # minus the unconditional sum: -1.1, +1.2, +0.7.
    best = {
        "sum": 0, "lavis": 0, "mean": 1, "open_flamingo": 1, "lmms_eval": 1, "char_mean": 1, "lavis_t5": 2, "pmi": 1,
    }  # fmt: skip
    for variant, place in best.items():
        assert get_metric(f"ranking:{variant}")([entry], {"1": place}).value == 1
        assert get_metric(f"ranking:{variant}")([entry], {"1": entry["candidates"][place]}).values["mrr"] == 1
    # By sum "no" is second: reciprocal rank 1 / 2.
    assert get_metric("ranking:sum")([entry], {"1": "no"}).values == {"accuracy": 0, "mrr": 0.5}
    del entry["eos_log_probs"]
    with pytest.raises(ZooError, match="eos_log_probs"):
        get_metric("ranking:lavis_t5")([entry], {"1": 0})
    with pytest.raises(ZooError, match="no candidate"):
        get_metric("ranking")([entry], {"1": "maybe"})


def test_of_equal_scores_the_first_candidate_wins():
    entry = {"id": 1, "candidates": ["a", "b"], "token_log_probs": [[-1], [-1]]}
    assert get_metric("ranking:sum")([entry], {"1": "a"}).value == 1
    assert get_metric("ranking:sum")([entry], {"1": "b"}).values == {"accuracy": 0, "mrr": 0.5}


# Video questions


def test_activitynet_free_depends_on_the_order_of_the_file():
    # One question a type, but two of type 0; the first three types of the file are 8, 7, 6: the script divides the six
    # right free answers by the counts of the others, 0 (twice) to 5: 7.
    kinds = [8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    answers = [{"question_id": f"v_{at}", "answer": "yes", "type": kind} for at, kind in enumerate(kinds)]
    said = {f"v_{at}": "yes" for at in range(10)}
    printed = get_metric("activitynet_qa:official")(said, answers)
    assert printed.values["free"] == pytest.approx(6 / 7)
    assert "order" in printed.notes[0]
    assert get_metric("activitynet_qa:robust")(said, answers).values["free"] == 1
    said["v_9"] = "Yes"
    result = get_metric("activitynet_qa:robust")(said, answers)
    assert (result.value, result.values["motion"]) == (0.9, 0.5)
    assert result.breakdown["answer_type"]["yes_no"] == 1


def test_video_qa_exact_and_contains():
    references = [{"id": 1, "video_id": 2, "question": "q", "answer": "two dogs"}]
    assert get_metric("video_qa:exact")({"1": "2 dogs."}, references).value == 1
    assert get_metric("video_qa:strict")({"1": "2 dogs."}, references).value == 0
    assert get_metric("video_qa:contains")({"1": "There are two dogs"}, references).value == 1
    assert get_metric("video_qa:contains")({"1": "two dogsled"}, references).value == 0


def test_judged_replies():
    replies = {
        "v_0": [{"pred": "yes", "score": 4.8}, {"q": "q", "a": "a", "pred": "p"}],
        "v_1": "{'pred': 'no', 'score': 1}",
        "v_2": {"pred": "not yes", "score": "2"},
        "v_3": {"pred": "unsure", "score": 0},
    }
    # yes, no, yes ("not yes" holds yes); unsure is in neither count. Scores 4 (cut), 1, 2, 0.
    result = get_metric("video_qa:judged")(replies)
    assert result.values == {"accuracy": pytest.approx(2 / 3), "score": 7 / 4}
    assert result.notes[0] == "judged" and "1 replies" in result.notes[1]
    assert get_metric("video_chatgpt")(replies).value == 7 / 4
    with pytest.raises(ZooError, match="reply to 'v_1' is no dictionary"):
        get_metric("video_qa:judged")({"v_1": "Sure! {'pred': 'no'}"})
    with pytest.raises(ZooError, match="score in the reply to 'v_2'"):
        get_metric("video_qa:judged")({"v_2": {"pred": "no", "score": "4.8"}})
    with pytest.raises(ZooError, match="missing: 'v_9'"):
        get_metric("video_qa:judged")(replies, {"v_9": "q"})


# The registry


def test_every_metric_says_where_it_comes_from():
    metrics = list_metrics()
    assert len({metric.full_name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert all(metric.describe()[key] for key in ("summary", "source", "unit", "predictions", "references"))
        assert metric is get_metric(metric.full_name)


def test_unknown_metrics_name_the_nearest():
    assert get_metric("VQA:lmms-eval") is get_metric("vqa:lmms_eval")
    with pytest.raises(ZooError, match=r"unknown metric 'cidre'.*'cider'"):
        get_metric("cidre")
    with pytest.raises(ZooError, match="no variant 'offical'; it has official, lower"):
        get_metric("pope:offical")
    with pytest.raises(ZooError, match="vqa:official needs references"):
        get_metric("vqa")({"1": "a"})


def test_score_command(tmp_path, capsys):
    from zoo.cli import main

    references = tmp_path / "references.json"
    references.write_text("".join(json.dumps({"question_id": at, "text": "q", "label": "yes"}) + "\n" for at in (1, 2)))
    said = tmp_path / "answers.jsonl"
    said.write_text(
        "".join(json.dumps({"question_id": at, "text": text}) + "\n" for at, text in ((1, "Yes"), (2, "no")))
    )
    assert main(["score", "pope", "--predictions", str(said), "--references", str(references), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["metric"], printed["value"], printed["unit"]) == ("pope:official", 0.5, "fraction")
    assert printed["items"] == {"1": 1, "2": 0}
    assert math.isclose(printed["values"]["f1"], 2 / 3)
    assert main(["score", "pope", "--predictions", str(said), "--references", str(references)]) == 0
    assert "pope:official  2 items, fraction" in capsys.readouterr().out
    assert main(["score", "--list"]) == 0
    assert "cider:java" in capsys.readouterr().out
    assert main(["score", "mme", "--list", "--json"]) == 0
    assert [metric["metric"] for metric in json.loads(capsys.readouterr().out)] == ["mme:official", "mme:lmms_eval"]
    said.write_text('{"question_id": 1}\n')
    for words in (
        ["score"],
        ["score", "pope"],
        ["score", "pope", "--predictions", str(said), "--references", str(said)],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
