"""Yes/no and multiple choice. Expected values are worked out by hand; each says where it comes from."""

import pytest

from zoo.errors import ZooError
from zoo.evaluation.metrics import get_metric
from zoo.evaluation.metrics.mme import official as mme_official
from zoo.evaluation.metrics.mmvp import letter
from zoo.evaluation.parsing import option_letter, parse_yes_no, scienceqa_letter, scienceqa_robust_letter

# POPE


def pope_files(labels):
    return [
        {"question_id": at, "image": "x.jpg", "text": f"Q{at}?", "label": label} for at, label in enumerate(labels, 1)
    ]


def test_pope_by_hand_joined_by_place():
    # Answers read as yes, no, yes (NO is no token of the rule), no: TP 1, FN 1, FP 1, TN 1.
    answers = [{"question": f"Q{at}?", "answer": text} for at, text in enumerate(["Yes", "No.", "NO", "no"], 1)]
    result = get_metric("pope:official")(answers, pope_files(["yes", "yes", "no", "no"]))
    assert result.values == {
        "accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5, "yes_ratio": 0.5,
        "TP": 1, "FP": 1, "TN": 1, "FN": 1,
    }  # fmt: skip
    # Lower-cased, NO is a no: three of four right, and nothing but "Yes" is a yes.
    lower = get_metric("pope:lower")(answers, pope_files(["yes", "yes", "no", "no"]))
    assert (lower.value, lower.values["precision"], lower.values["yes_ratio"]) == (0.75, 1, 0.25)


def test_pope_checks_place_and_id():
    references = pope_files(["yes", "no"])
    with pytest.raises(ZooError, match="same order"):
        get_metric("pope")([{"question": "Q2?", "answer": "no"}, {"question": "Q1?", "answer": "yes"}], references)
    with pytest.raises(ZooError, match="1 predictions without ids for 2"):
        get_metric("pope")([{"answer": "yes"}], references)
    by_id = [{"question_id": 2, "text": "no"}, {"question_id": 1, "text": "yes"}]
    assert get_metric("pope")(by_id, references).value == 1
    with pytest.raises(ZooError, match="none of their ids"):
        get_metric("pope")([{"question_id": 3001, "text": "no"}], references)
    with pytest.raises(ZooError, match="missing: '2'"):
        get_metric("pope")(by_id[1:], references)


def test_pope_zero_denominators_are_zero_and_said():
    result = get_metric("pope")({"1": "no", "2": "no"}, pope_files(["no", "no"]))
    assert (result.values["precision"], result.values["recall"], result.values["f1"]) == (0, 0, 0)
    assert "official script stops" in result.notes[-1]


def test_pope_categories_and_their_mean():
    references = [entry | {"category": name} for entry, name in zip(pope_files(["yes", "no", "yes", "no"]), "aabb")]
    result = get_metric("pope")({"1": "yes", "2": "no", "3": "no", "4": "no"}, references)
    # a is all right; b: one of two right, no yes at all.
    assert result.breakdown["a"]["f1"] == 1
    assert result.breakdown["b"]["accuracy"] == 0.5
    assert result.breakdown["mean of categories"]["accuracy"] == 0.75


def test_pope_of_other_projects():
    references = pope_files(["yes", "yes", "no"])
    answers = {"1": "Yes.", "2": "yes", "3": "maybe"}
    # lmms-eval: "Yes." is no yes; precision 1 / 1, recall 1 / (1 + 0), as "yes." is no "no" either; labels: 2 / 3.
    other = get_metric("pope:lmms_eval")(answers, references).values
    assert (other["accuracy"], other["precision"], other["recall"]) == (pytest.approx(1 / 3), 1, 1)
    assert other["yes_ratio"] == pytest.approx(2 / 3)
    # VLMEvalKit: both yes are read, "maybe" is Unknown: wrong, and not a yes.
    assert get_metric("pope:vlmevalkit")(answers, references).values["accuracy"] == pytest.approx(200 / 3)
    assert parse_yes_no("The answer is yes .", "shikra") == "yes"
    assert parse_yes_no("yes", "shikra") is None
    assert parse_yes_no("yes, no", "vlmevalkit") is None


# MME


@pytest.mark.parametrize(
    ("text", "read"),
    [("Yes", "yes"), ("no.", "no"), ("*Yes*", "yes"), ("**Yes**", "other"), ("The answer is yes", "other"),
     ("nope", "no"), ("now", "no"), ("not sure", "no"), (" yes", "yes"), ("  yes", "other"), ("y", "other"),
     ("", "other")],
)  # fmt: skip
def test_mme_reads_the_first_four_characters(text, read):
    assert mme_official(text) == read


def test_mme_scores(tmp_path):
    # Image a: both right; image b: one right (the second is "other"). acc 3 / 4, acc+ 1 / 2: 100 * 1.25.
    lines = ["a.jpg\tq1\tYes\tYes", "a.jpg\tq2\tNo\tNo, it is not", "b.jpg\tq1\tYes\tyes", "b.jpg\tq2\tNo\tI think no"]
    (tmp_path / "existence.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "OCR.txt").write_text("c.jpg\tq1\tYes\tno\nc.jpg\tq2\tNo\tyes\n")
    (tmp_path / "code_reasoning.txt").write_text("d.jpg\tq1\tYes\ty\nd.jpg\tq2\tNo\tN.\n")
    result = get_metric("mme:official")(tmp_path)
    assert result.breakdown["existence"] == {"acc": 0.75, "acc_plus": 0.5, "score": 125, "images": 2}
    assert result.values == {"total": 125, "perception": 125, "cognition": 0}
    assert "count" in result.notes[0] and "3 answers" in result.notes[1]
    # lmms-eval reads y and n alone: 200 points.
    assert get_metric("mme:lmms_eval")(tmp_path).values["cognition"] == 200


def test_mme_refuses_what_it_cannot_pair(tmp_path):
    metric = get_metric("mme")
    with pytest.raises(ZooError, match=r"existence.*images 'a' and 'b'"):
        metric({"existence": "a\tq\tYes\tno\nb\tq\tNo\tno\n"})
    with pytest.raises(ZooError, match="1 lines; every image has two"):
        metric({"existence": "a\tq\tYes\tno\n"})
    with pytest.raises(ZooError, match=r"line 1 has 3 columns"):
        metric({"existence": "a\tq\tYes\n"})
    with pytest.raises(ZooError, match="'maybe'; it must be Yes or No"):
        metric({"existence": "a\tq\tmaybe\tno\na\tr\tNo\tno\n"})
    with pytest.raises(ZooError, match="unknown subtasks 'existense'"):
        metric({"existense": "a\tq\tYes\tno\n"})
    said = {"existence": "a\tq\tYes\tno\na\tr\tNo\tno\n"}
    with pytest.raises(ZooError, match="files of one release"):
        metric(said, {"existence": "a\tq\tNo\na\tr\tNo\n"})
    with pytest.raises(ZooError, match="'count' are missing"):
        metric(said, {"existence": "a\tq\tYes\na\tr\tNo\n", "count": "b\tq\tYes\nb\tr\tNo\n"})


# MMBench

OPTIONS = {"A": "cat", "B": "blue dog", "C": "no"}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("B", "B"),
        ("(B).", "B"),
        ("The option is B because of that dog there", None),  # B is not among the last four tokens; two texts... none
        ("A blue bus", "A"),  # the article among at most four tokens
        ("It is clear that A big red bus is here", None),  # the article too early
        ("I would say that the answer is b and nothing else at all", "B"),
        ("The answer is cat", "C"),  # "answer is" takes the c of cat
        ("a blue dog", "B"),
        ("nothing", "C"),  # "nothing" holds "no"
        ("cat and blue dog", None),
        ("x" * 30 + " cat", None),  # longer than twice the 13 characters of the options
        ("Z", "Z"),
        ("I can't process this file.", "Z"),
        ("", None),
    ],
)
def test_option_by_rule(text, chosen):
    assert option_letter(text, OPTIONS) == chosen


def test_circular_accuracy_needs_every_rotation():
    rows = [
        {"index": "1", "A": "x", "B": "y", "answer": "A", "category": "c", "split": "dev"},
        {"index": "1000001", "A": "y", "B": "x", "answer": "B", "category": "c", "split": "dev"},
        {"index": "2", "A": "x", "B": "y", "answer": "B", "category": "d", "split": "dev"},
        {"index": "1000002", "A": "y", "B": "x", "answer": "A", "category": "d", "split": "dev"},
    ]
    said = {"1": "A", "1000001": "B", "2": "B", "1000002": "B"}
    # Question 1 right twice, question 2 once: 1 of 2 circular, 3 of 4 rows.
    circular = get_metric("mmbench:circular")(said, rows)
    assert circular.value == 0.5
    assert circular.breakdown == {"split": {"dev": 0.5}, "category": {"c": 1, "d": 0}}
    assert get_metric("mmbench:vanilla")(said, rows).value == 0.75
    with pytest.raises(ZooError, match="rotations of '1'"):
        get_metric("mmbench")({"1000001": "B"}, rows[1:2])


def test_an_option_called_none_is_missing_as_for_pandas(tmp_path):
    table = tmp_path / "mmbench.tsv"
    table.write_text("index\tquestion\tA\tB\tC\tanswer\n1\tq?\tcat\tNone\t\tA\n")
    # Only A is an option: "None" does not choose B.
    assert get_metric("mmbench:vanilla")([{"index": 1, "prediction": "None"}], table).value == 0
    assert get_metric("mmbench:vanilla")([{"index": 1, "prediction": "a cat"}], table).value == 1


# SEED-Bench, MMVP, ScienceQA, MVBench


def test_seed_bench():
    references = {
        "questions": [
            {"question_id": 1, "answer": "B", "question_type_id": 1, "data_type": "image"},
            {"question_id": 2, "answer": "A", "question_type_id": 10, "data_type": "video"},
        ],
        "question_type": {"Scene Understanding": 1, "Action Recognition": 10},
    }
    lines = [{"question_id": 1, "text": "because"}, {"question_id": 2, "text": "A"}]
    result = get_metric("seed_bench:letter")(lines, references)
    assert result.values == {"total": 50, "image": 0, "video": 100}
    assert result.breakdown["dimension"] == {"Scene Understanding": 0, "Action Recognition": 100}
    assert get_metric("seed_bench:lmms_eval")(lines, references).value == 1  # "because" begins with b
    losses = [{"question_id": 1, "losses": [3, 1, 2, 4]}, {"question_id": 2, "losses": [1, 1, 2, 2]}]
    assert get_metric("seed_bench:likelihood")(losses, references).value == 100  # smallest; of equal ones the first
    official = [{"q_id": 1, "prediction": "B", "gt": "B", "q_type_id": 1}, {"q_id": 2, "prediction": "C"}]
    assert get_metric("seed_bench:likelihood")(official, references).value == 50


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("A", "A"),
        ("(b)", "B"),
        ("B. closed", "B"),
        ("The answer is (a)", "A"),
        ("It is a dog", "A"),
        ("open", None),
        ("", None),
    ],
)
def test_mmvp_letter(text, chosen):
    assert letter(text) == chosen


def test_mmvp_pairs(tmp_path):
    table = tmp_path / "Questions.csv"
    rows = [(index, "(a)" if index % 2 else "(b)") for index in (97, 98, 99, 100)]
    table.write_text(
        "Index,Question,Options,Correct Answer\n"
        + "".join(f'{index},Q?,"(a) x, (b) y",{right}\n' for index, right in rows)
    )
    said = [{"question_id": index, "response": text} for index, text in zip((97, 98, 99, 100), "ABAA")]
    result = get_metric("mmvp")(said, table)
    assert result.values == {"pair_accuracy": 0.5, "accuracy": 0.75}
    # lmms-eval corrected 99 to (b) and 100 to (a): of the second pair the second answer is right instead of the first.
    assert get_metric("mmvp:lmms_eval")(said, table).items["100"] == 1
    judged = get_metric("mmvp:judged")({"1": "Yes", "2": "yes", "3": "yes", "4": "Yes."})
    assert judged.values == {"pair_accuracy": 0.5, "accuracy": 0.75}
    with pytest.raises(ZooError, match="half a pair is missing: questions '3, 4'"):
        get_metric("mmvp:judged")({"1": "yes", "2": "yes", "3": "yes"})


@pytest.mark.parametrize(
    ("text", "parsed", "repaired"),
    [("A", "A", "A"), ("A.", None, "A"), ("(A)", None, "A"), ("A)", None, "A"), (" A", None, "A"), ("B\n", None, "B"),
     ("A. cat", "A", "A"), ("A. ", "A", "A"), ("The answer is B.", "B", "B"), ("The answer is B", None, "B"),
     ("So the answer is (C)", None, "C"), ("The answer is Z.", "Z", None), ("A bird", None, None), ("", None, None),
     ("The answer is A. The answer is B.", None, None)],
)  # fmt: skip
def test_scienceqa_letters(text, parsed, repaired):
    assert scienceqa_letter(text) == parsed
    assert scienceqa_robust_letter(text) == repaired


def test_scienceqa_report():
    problem = {"choices": ["x", "y"], "answer": 1, "hint": "", "image": None, "split": "test"}
    problems = {
        "1": problem | {"image": "image.png", "subject": "natural science", "grade": "grade6"},
        "2": problem | {"hint": "h", "subject": "social science", "grade": "grade7"},
        "3": problem | {"subject": "natural science", "grade": "grade2"},
        "4": problem | {"split": "train"},
    }
    said = {"1": "B", "2": "C", "3": "(B)"}  # C is no choice, (B) is not read: two failed parses
    result = get_metric("scienceqa:llava")(said, problems)
    assert result.values == {"accuracy": pytest.approx(100 / 3), "img_accuracy": 100}
    assert result.breakdown["subject"] == {"NAT": 50, "SOC": 0}
    assert result.breakdown["context"] == {"TXT": 0, "IMG": 100, "NO": 0}
    assert result.breakdown["grade"] == {"G1-6": 50, "G7-12": 0}
    assert result.notes == ("2 failed parses",)
    # The official script draws one of two choices for the three failed parses ("B" alone is one too): 1 / 2 each.
    assert get_metric("scienceqa:official")(said, problems).value == pytest.approx(50)
    assert get_metric("scienceqa:official")({"results": {"1": 1, "2": 0, "3": 1}}, problems).value == pytest.approx(
        200 / 3
    )
    with pytest.raises(ZooError, match="missing: '3'"):
        get_metric("scienceqa")({"1": "B", "2": "B"}, problems)


def test_mvbench_empty_answer_is_right_unless_repaired():
    questions = [{"id": 1, "candidates": ["up", "down"], "answer": "down", "task_type": "t"}]
    for text, official, robust in [
        ("", 1, 0),
        ("(B) down", 1, 1),
        ("B.", 1, 1),
        ("(A) up", 0, 0),
        ("b)", 1, 1),
        ("(", 1, 0),
    ]:
        assert get_metric("mvbench:official")({"1": text}, questions).items["1"] == official
        assert get_metric("mvbench:robust")({"1": text}, questions).items["1"] == robust
    official = {
        "res_list": [
            {"pred": "(A)", "gt": "(A) up", "task_type": "t"},
            {"pred": "(A)", "gt": "(B) x", "task_type": "s"},
        ]
    }
    assert get_metric("mvbench")(official).values == {"accuracy": 50, "task_mean": 50}
