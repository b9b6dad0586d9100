import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.sample import Box, Message, Sample
from zoo.errors import ZooError
from zoo.evaluation.items import Item
from zoo.evaluation.metrics import METRICS, iou, metric_version, score, summarise_yes_no
from zoo.evaluation.parsing import parse_yes_no


def item(metric, references=(), boxes=()):
    sample = Sample(id="q7", messages=(Message(role="user", content="?"),))
    return Item(sample=sample, task="t", metric=metric, references=references, boxes=boxes)


@pytest.mark.parametrize(
    ("prediction", "value"),
    [
        ("red", 1),
        ("Red.", 1),
        (" RED .\n", 1),
        ("the red", 0),
        ("red..", 0),
        ("", 0),
        ("crimson", 1),
        ("red car", 0),
    ],
)
def test_exact_match_ignores_case_blanks_and_one_full_stop_only(prediction, value):
    assert score(item("exact_match", ("red", "Crimson.")), prediction).value == value


@pytest.mark.parametrize("text", ["Not really", "NO", "None", "No!", "no\n", "isn't", "", "yes", "Yes, not"])
def test_official_rule_keeps_the_quirks_of_pope(text):
    assert parse_yes_no(text, "official") == ("no" if text == "Yes, not" else "yes")


@pytest.mark.parametrize("text", ["no", "No, there is not.", "It is not there. Yes", "a no, b"])
def test_official_rule_reads_a_no_in_the_first_sentence(text):
    assert parse_yes_no(text, "official") == "no"


def test_official_rule_stops_at_the_first_full_stop():
    assert parse_yes_no("There is one. no", "official") == "yes"


def test_lower_rule_reads_capital_no():
    assert parse_yes_no("NO", "lower") == "no"
    assert parse_yes_no("Not really", "lower") == "no"
    assert parse_yes_no("maybe", "lower") == "yes"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("YES!", "yes"),
        ("**No**", "no"),
        ("no_", "no"),
        ("yes or no", None),
        ("nope", None),
        ("", None),
        ("yes yes", "yes"),
    ],
)
def test_strict_rule_needs_exactly_one_of_the_words(text, parsed):
    assert parse_yes_no(text) == parsed


def test_unknown_rule_names_the_nearest():
    with pytest.raises(ZooError, match="'official'"):
        parse_yes_no("yes", "offical")


def test_unparsed_yes_no_is_wrong_for_either_reference():
    for reference in ("yes", "no"):
        scored = score(item("yes_no", (reference,)), "a red cube")
        assert (scored.value, scored.parsed) == (0.0, None)
    assert score(item("yes_no", ("No",)), "No.").value == 1


def test_yes_no_refuses_other_references():
    with pytest.raises(ZooError, match="q7"):
        score(item("yes_no", ("maybe",)), "yes")


def test_yes_no_summary_by_hand():
    references = ["yes", "yes", "yes", "no", "no", "no", "no"]
    parsed = ["yes", "no", None, "yes", "no", "no", None]
    summary = summarise_yes_no(references, parsed)
    assert summary.accuracy == pytest.approx(3 / 7)
    assert summary.precision == pytest.approx(1 / 2)
    assert summary.recall == pytest.approx(1 / 3)
    assert summary.f1 == pytest.approx(2 * (1 / 6) / (5 / 6))
    assert summary.yes_ratio == pytest.approx(2 / 7)
    assert summary.num_unparsed == 2


def test_yes_no_summary_has_no_zero_division():
    summary = summarise_yes_no(["no", "no"], ["no", None])
    assert (summary.accuracy, summary.precision, summary.recall, summary.f1, summary.yes_ratio) == (0.5, 0, 0, 0, 0)
    assert summarise_yes_no([], []).accuracy == 0


def test_iou_by_hand_in_continuous_pixels():
    unit = Box(x0=0, y0=0, x1=2, y1=2)
    assert iou(unit, Box(x0=1, y0=1, x1=3, y1=3)) == pytest.approx(1 / 7)
    assert iou(unit, Box(x0=0, y0=0, x1=2, y1=1)) == pytest.approx(1 / 2)
    assert iou(unit, Box(x0=2, y0=0, x1=4, y1=2)) == 0
    assert iou(unit, Box(x0=2, y0=2, x1=0, y1=0)) == 0
    assert iou(Box(x0=1, y0=1, x1=1, y1=1), Box(x0=1, y0=1, x1=1, y1=1)) == 0


corner = st.floats(0, 100)


@given(corner, corner, corner, corner, corner, corner, corner, corner)
def test_iou_is_symmetric_and_in_range(a, b, c, d, e, f, g, h):
    first = Box(x0=min(a, b), y0=min(c, d), x1=max(a, b), y1=max(c, d))
    second = Box(x0=min(e, f), y0=min(g, h), x1=max(e, f), y1=max(g, h))
    assert iou(first, second) == pytest.approx(iou(second, first))
    assert 0 <= iou(first, second) <= 1 + 1e-9


def test_box_at_the_threshold_hits_and_a_failed_parse_is_wrong():
    asked = item("box_iou", boxes=(Box(x0=50, y0=50, x1=60, y1=60), Box(x0=0, y0=0, x1=2, y1=2)))
    half = Box(x0=0, y0=0, x1=2, y1=1)
    hit = score(asked, "x", parse_box=lambda text: [half])
    assert (hit.value, hit.extra["iou"], hit.parsed) == (1.0, 0.5, "0 0 2 1")
    assert score(asked, "x", parse_box=lambda text: Box(x0=0, y0=0, x1=2, y1=0.99)).value == 0
    for nothing in (None, [], Box(x0=float("nan"), y0=0, x1=1, y1=1)):
        missed = score(asked, "x", parse_box=lambda text, nothing=nothing: nothing)
        assert (missed.value, missed.parsed) == (0.0, None)


def test_box_needs_parser_and_reference():
    with pytest.raises(ZooError, match="parse_box"):
        score(item("box_iou", boxes=(Box(x0=0, y0=0, x1=2, y1=2),)), "x")
    with pytest.raises(ZooError, match="reference box"):
        score(item("box_iou"), "x", parse_box=lambda text: None)


def test_unknown_metric_and_missing_reference_name_the_item():
    with pytest.raises(ZooError, match=r"q7.*'bleurt'"):
        score(item("bleurt", ("a",)), "x")
    with pytest.raises(ZooError, match=r"q7.*cider needs"):
        score(item("cider", ("a",)), "x")
    with pytest.raises(ZooError, match=r"q7.*reference"):
        score(item("exact_match"), "x")


def test_versions_differ_by_metric_and_rule():
    versions = {metric_version(metric) for metric in METRICS} | {metric_version("yes_no", yes_no_rule="official")}
    assert len(versions) == len(METRICS) + 1
