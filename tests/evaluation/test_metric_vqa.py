"""VQA soft accuracy. Expected values are worked out by hand from the rule; the comment says how."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ZooError
from zoo.evaluation.metrics import get_metric
from zoo.evaluation.metrics.vqa import soft_accuracy
from zoo.evaluation.normalise import CONTRACTIONS, normalise_m4c, normalise_vqa, strip_punctuation


def annotation(answers, question_id=1, ids=True, **extra):
    entries = [
        {"answer": answer, "answer_confidence": "yes"} | ({"answer_id": at} if ids else {})
        for at, answer in enumerate(answers, 1)
    ]
    return {"question_id": question_id, "image_id": 9, "answers": entries} | extra


def percent(variant, prediction, answers, **options):
    metric = get_metric(f"vqa:{variant}")
    return metric([{"question_id": 1, "answer": prediction}], {"annotations": [annotation(answers, **options)]}).value


@pytest.mark.parametrize(("matches", "expected"), enumerate([0, 30, 60, 90, 100, 100, 100, 100, 100, 100, 100]))
def test_k_of_ten_matches(matches, expected):
    # k annotators see min(1, (k - 1) / 3), the other 10 - k see min(1, k / 3); k = 2: (2 * 1 / 3 + 8 * 2 / 3) / 10.
    answers = ["red"] * matches + [f"other {at}" for at in range(10 - matches)]
    assert percent("official", "red", answers) == pytest.approx(expected)


def test_ten_identical_answers_skip_normalising_in_the_official_rule_alone():
    assert percent("official", "Yes", ["yes"] * 10) == 0
    assert percent("official", "yes.", ["yes"] * 10) == 0
    assert percent("official", " yes\n", ["yes\t"] * 10) == 100  # blanks at the ends go in any case
    assert percent("official", "Yes", ["yes"] * 9 + ["no"]) == 100
    for variant in ("robust", "open_flamingo", "lavis", "m4c", "lmms_eval", "lmms_eval_textvqa", "vlmevalkit"):
        assert percent(variant, "Yes.", ["yes"] * 10) == 100


def test_answers_without_ids_leave_equal_ones_out():
    # Six equal "red" entries: each of them sees 0 others, the four "blue" see all six: 4 * 1 / 10.
    answers = ["red"] * 6 + ["blue"] * 4
    for variant in ("official", "open_flamingo", "lavis", "lmms_eval"):
        assert percent(variant, "red", answers, ids=False) == pytest.approx(40)
        assert percent(variant, "red", answers) == pytest.approx(100)
    assert percent("robust", "red", answers, ids=False) == pytest.approx(100)
    metric = get_metric("vqa:official")
    result = metric({"1": "red"}, {"annotations": [annotation(answers, ids=False)]})
    assert "answer_id" in result.notes[0]


def test_lavis_normalises_only_the_punctuation_of_references():
    # "two" becomes "2" in the prediction, never in the references: no match; the same with an article.
    assert percent("lavis", "two", ["two"] * 9 + ["3"]) == 0
    assert percent("open_flamingo", "two", ["two"] * 9 + ["3"]) == 100
    assert percent("lavis", "the car", ["the car"] * 9 + ["bus"]) == 0


def test_m4c_differs_from_the_official_rule_on_numbers_with_commas():
    # official: digit-comma-digit makes all marks vanish: "1000 tshirts"; M4C removes the comma first: "-" is a blank.
    assert normalise_vqa("1,000 t-shirts") == "1000 tshirts"
    assert normalise_m4c("1,000 t-shirts") == "1000 t shirts"
    assert normalise_m4c("dog's") == "dog 's"
    assert percent("m4c", "1000 t shirts", ["1,000 t-shirts"] * 10) == 100


def test_only_lmms_eval_takes_a_run_of_commas_for_a_number():
    # "1,,2 a-b": official: no digit-comma-digit, so "," and "-" become blanks; lmms-eval: all marks vanish.
    assert percent("open_flamingo", "12 ab", ["1,,2 a-b"] * 10) == 0
    assert percent("lmms_eval", "12 ab", ["1,,2 a-b"] * 10) == 100


def test_vlmevalkit_keeps_a_period_behind_a_digit():
    assert percent("vlmevalkit", "3", ["3."] * 10) == 0
    assert percent("open_flamingo", "3", ["3."] * 10) == 100


def test_m4c_needs_ten_answers_and_aokvqa_does_not_leave_one_out():
    with pytest.raises(ZooError, match=r"'1' has 9 answers.*ten|'1' has 9 answers.*10"):
        percent("m4c", "a", ["a"] * 9)
    # A-OKVQA: 2 matches of 10, as they stand: 2 / 3; "Red" is another answer.
    metric = get_metric("vqa:aokvqa")
    references = [{"question_id": "q", "direct_answers": ["red", "red", "Red", "blue"]}]
    assert metric({"q": "red"}, references).value == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A mark beside a blank anywhere vanishes everywhere; else it becomes a blank.
        ("red/blue", "red blue"),
        ("red /blue/green", "red bluegreen"),
        ("(red)", "red"),
        ("t-shirt", "t shirt"),
        # Kept: ' : & % $ # * ~ ^ | and everything beyond ASCII.
        ("10:30 5% $5 #1 a&b", "10:30 5% $5 #1 a&b"),
        ("“café”", "“café”"),
        # Periods go unless a digit follows.
        ("3.", "3"),
        ("3.5.", "3.5"),
        (".5", ".5"),
        ("dot.com", "dotcom"),
        # At most 32 of them.
        ("." * 40 + "x", "." * 8 + "x"),
        # Number words up to ten, articles, contractions.
        ("None of the Ten", "0 of 10"),
        ("eleven", "eleven"),
        ("A an THE", ""),
        ("dont", "don't"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),
        ("", ""),
        ("  \n\t ", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalise_vqa(text) == expected


def test_contraction_table_is_the_published_one():
    # 120 entries, less 2 identities (let's, she's) and 4 with a capital, which lower-cased text never meets.
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["'ow'sat"] == CONTRACTIONS["ow's'at"] == "'ow's'at"
    assert CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert not {"im", "ive", "lets", "shes"} & set(CONTRACTIONS)


def test_figures_are_rounded_and_broken_down_by_type():
    # 90 % and 30 %: the mean is 60; yes/no holds the first, other the second.
    references = {
        "annotations": [
            annotation(["yes"] * 3 + list("abcdefg"), 1, answer_type="yes/no", question_type="is"),
            annotation(["two", *"bcdefghij"], 2, answer_type="number", question_type="how many"),
        ]
    }
    result = get_metric("vqa")([{"question_id": 2, "answer": "2"}, {"question_id": 1, "answer": "Yes"}], references)
    assert result.metric == "vqa:official"
    assert result.values == {"overall": 60.0}
    assert result.breakdown == {
        "answer_type": {"yes/no": 90.0, "number": 30.0},
        "question_type": {"is": 90.0, "how many": 30.0},
    }
    assert result.items == {"1": pytest.approx(0.9), "2": pytest.approx(0.3)}
    # One match of ten in two of three questions, four in the third: (30 + 30 + 100) / 3 = 53.333... prints as 53.33.
    answers = [["a", *"bcdefghij"]] * 2 + [["a"] * 10]
    many = {"annotations": [annotation(said, number) for number, said in enumerate(answers)]}
    assert get_metric("vqa")({"0": "c", "1": "c", "2": "a"}, many).value == 53.33


def test_vizwiz_and_textvqa_files(tmp_path):
    vizwiz = [{"image": "v.jpg", "answers": [{"answer": "unanswerable", "answer_confidence": "yes"}] * 10}]
    # Ten equal entries without ids: nobody is left to match.
    assert get_metric("vqa:official")([{"image": "v.jpg", "answer": "unanswerable"}], vizwiz).value == 0
    assert get_metric("vqa:robust")([{"image": "v.jpg", "answer": "unanswerable"}], vizwiz).value == 100
    textvqa = {"data": [{"question_id": 5, "image_id": "i", "question": "What Brand?", "answers": ["Dell"] * 10}]}
    (tmp_path / "references.json").write_text(json.dumps(textvqa))
    line = {
        "question_id": "i",
        "prompt": "what brand?\nAnswer the question using a single word or phrase.",
        "text": "dell",
    }
    (tmp_path / "answers.jsonl").write_text(json.dumps(line) + "\n")
    result = get_metric("vqa:m4c")(tmp_path / "answers.jsonl", str(tmp_path / "references.json"))
    assert (result.value, list(result.items)) == (100, ["5"])
    line["prompt"] = "what colour?\nReference OCR token: a\nAnswer the question using a single word or phrase."
    with pytest.raises(ZooError, match="what colour"):
        get_metric("vqa:m4c")([line], textvqa)


def test_missing_unknown_and_doubled_predictions_are_named():
    references = {"annotations": [annotation(["a"] * 10, number) for number in range(15)]}
    metric = get_metric("vqa")
    with pytest.raises(ZooError, match=r"13 of 15 are missing: '2', '3'.*and 3 more"):
        metric({"0": "a", "1": "a"}, references)
    with pytest.raises(ZooError, match="'99' have no reference"):
        metric({str(number): "a" for number in [*range(15), 99]}, references)
    with pytest.raises(ZooError, match="'3' more than once"):
        metric([{"question_id": number, "answer": "a"} for number in [*range(15), 3]], references)
    with pytest.raises(ZooError, match="'1' more than once"):
        metric({"1": "a"}, [annotation(["a"], 1), annotation(["b"], 1)])
    with pytest.raises(ZooError, match=r"entry 0 lacks 'answer'.*'question_id'"):
        metric([{"question_id": 1}], references)
    with pytest.raises(ZooError, match="no list of answers"):
        metric({"1": "a"}, [{"question_id": 1, "answers": []}])


words = st.lists(
    st.sampled_from(["yes", "Yes.", "two", "2", "a dog", "dog", "1,000", "", "t-shirt"]), min_size=1, max_size=12
)


@settings(max_examples=50)
@given(words, st.sampled_from(["yes", "2", "dog", ""]))
def test_accuracy_is_in_range_and_does_not_depend_on_the_order_of_annotators(answers, prediction):
    value = soft_accuracy(prediction, answers)
    assert 0 <= value <= 1
    assert value == pytest.approx(soft_accuracy(prediction, answers[::-1]))
    distinct = [{"answer": answer, "answer_id": at} for at, answer in enumerate(answers)]
    assert value == soft_accuracy(prediction, answers, distinct)


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_normalisation_of_any_text(text):
    cleaned = normalise_vqa(text)
    assert cleaned == " ".join(cleaned.split())
    assert not set(strip_punctuation(text)) & set(';/[]"{}()=+\\_-><@`,?!')
