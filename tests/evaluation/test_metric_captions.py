"""BLEU, ROUGE-L, CIDEr-D and their tokens: by hand from the equations, and against pycocoevalcap where it is there."""

import importlib.util
import math
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ZooError
from zoo.evaluation.metrics import get_metric
from zoo.evaluation.metrics.captions import java
from zoo.evaluation.metrics.captions.scores import bleu, cider, longest_common_subsequence, rouge_l
from zoo.evaluation.metrics.captions.tokens import tokenise

HAS_PYCOCOEVALCAP = importlib.util.find_spec("pycocoevalcap") is not None
HAS_JAVA = shutil.which("java") is not None


# What Stanford's PTBTokenizer 3.4.1 printed for these, after pycocoevalcap's filter.
@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's dog isn't here.", "a man 's dog is n't here"),
        ("I can't, won't; don't!", "i ca n't wo n't do n't"),
        ("cannot gonna lemme 'tis y'all o'clock", "can not gon na lem me 't is y' all o'clock"),
        ("the 1970's style, '70s", "the 1970 's style '70s"),
        ("rock 'n' roll and rock'n'roll", "rock 'n' roll and rock 'n' roll"),
        ("\"STOP\" 'sign' “here”", "stop sign here"),
        ("Mr. Smith of St. Louis in the u.s.", "mr. smith of st. louis in the u.s."),
        ("a no. 5 bus, no. it says no.", "a no. 5 bus no it says no"),
        ("approx. 5 lbs. of it", "approx 5 lbs of it"),
        ("well-known T-shirt, 3-year-old", "well-known t-shirt 3-year-old"),
        ("$5.00 50% #1 1,000 10:30 £5", "$ 5.00 50 % # 1 1,000 10:30 # 5"),
        ("a/b and/or a/b/c/d w/ w/o", "a/b and/or a/b/c / d w / w/o"),
        ("(parens) [brackets] {braces}", "-lrb- parens -rrb- -lsb- brackets -rsb- -lcb- braces -rcb-"),
        ("dots... more.. end …", "dots more end"),
        ("dash - em -- en – em — ----- dash", "dash em en em ----- dash"),
        ("what?! stop!now wow!!!", "what ?! stop!now wow !!!"),
        ("A man.Another man", "a man.another man"),
        ("AT&T R&B a&b &amp; C++", "at&t r&b a & b & c++"),
        ("semi- -ish a_b _c_", "semi ish a_b _ c _"),
        ("see http://www.a.com/x or me@x.com @home :)", "see http://www.a.com/x or me@x.com @home :-rrb-"),
        ("½ cup 5° 😀 ♥", "1/2 cup 5 ° ♥"),
        ("two\nlines", "two lines"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_tokens(caption, tokens):
    assert " ".join(tokenise(caption)) == tokens


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_tokens_of_any_text_are_lower_case_and_without_blanks(text):
    tokens = tokenise(text)
    assert all(token and " " not in token for token in tokens)
    assert tokens == [token.lower() for token in tokens]


def test_bleu_by_hand():
    # Candidate of 6 words, references of 7 and 5: equally close, so the shorter counts and there is no penalty.
    # Unigrams: "the" 2 of 3 (clipped to 2), cat, sat: 2 + 1 + 1 = 4 of 6. Bigrams: "the cat", "cat sat": 2 of 5.
    scores = bleu(["the the the cat sat down"], [["the cat sat on the mat here", "a cat sat right there"]])
    assert scores[0] == pytest.approx(4 / 6)
    assert scores[1] == pytest.approx(math.sqrt(4 / 6 * 2 / 5))
    # Trigrams: "the cat sat" 1 of 4; no 4-gram in common: a tiny number, not 0.
    assert scores[2] == pytest.approx((4 / 6 * 2 / 5 * 1 / 4) ** (1 / 3))
    assert 0 < scores[3] < 1e-3
    # Two words for four: all right, times exp(1 - 4 / 2).
    assert bleu(["a b"], [["a b c d"]])[0] == pytest.approx(math.exp(-1))
    assert bleu([""], [["a b"]])[0] < 1e-6


def test_rouge_l_by_hand():
    # Longest common subsequence "a c d": 3 of 4 said, 3 of 5 meant; F with beta^2 1.44.
    precision, recall = 3 / 4, 3 / 5
    expected = 2.44 * precision * recall / (recall + 1.44 * precision)
    assert rouge_l("a c x d", ["a b c d e"]) == pytest.approx(expected)
    # The largest precision and the largest recall come from different references.
    assert rouge_l("a b", ["a b c d", "a"]) == pytest.approx(1)
    assert rouge_l("", ["a"]) == 0
    assert rouge_l("", [""]) == 1  # one empty token on both sides


def test_cider_by_hand():
    # Two images, one reference each, no common words: every n-gram has df 1, idf log 2, which cancels in the cosine.
    # Image 1, "a b" for "a b": n = 1, 2: cosine 1; n = 3, 4: no n-grams, 0. Mean 0.5, times 10.
    # Image 2, "c" for "c d": n = 1: 1 / sqrt 2; the rest 0; one bigram less: exp(-1 / 72). 10 / 4 of it.
    first, second = cider(["a b", "c"], [["a b"], ["c d"]])
    assert first == pytest.approx(5)
    assert second == pytest.approx(10 / 4 * math.exp(-1 / 72) / math.sqrt(2))
    # A repeated word does not help: min(2, 1) * 1 / (2 * 1) in units of idf; "a a" is not meant; one bigram more.
    assert cider(["a a", "x"], [["a"], ["y"]])[0] == pytest.approx(10 / 4 * 0.5 * math.exp(-1 / 72))


def test_cider_depends_on_the_set_and_is_zero_for_one_image():
    assert cider(["a cat sat here"], [["a cat sat here"]]) == [0]
    references = {"1": ["a cat sat"], "2": ["a dog ran"], "3": ["two red birds"]}
    said = {"1": "a cat", "2": "a dog ran", "3": "birds"}
    metric = get_metric("cider")
    whole = metric(said, references)
    part = metric({name: said[name] for name in "12"}, {name: references[name] for name in "12"})
    assert whole.items["1"] != pytest.approx(part.items["1"])
    one = metric({"1": "a cat sat"}, {"1": ["a cat sat"]})
    assert one.value == 0 and "one image" in one.notes[-1]


def test_files_of_coco_and_karpathy_and_the_tokeniser_named():
    coco = {
        "images": [{"id": 7}, {"id": 8}],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": "A cat."},
            {"id": 2, "image_id": 8, "caption": "Two dogs run."},
            {"id": 3, "image_id": 7, "caption": "One cat!"},
        ],
    }
    result = get_metric("captions")(
        [{"image_id": 8, "caption": "two dogs run"}, {"image_id": 7, "caption": "a cat"}], coco
    )
    assert list(result.values) == ["CIDEr", "Bleu_4", "Bleu_3", "Bleu_2", "Bleu_1", "ROUGE_L"]
    assert result.values["Bleu_1"] == pytest.approx(1, abs=1e-8)
    assert "tokeniser" in result.notes[0]
    karpathy = {
        "images": [
            {"cocoid": 7, "split": "test", "sentences": [{"raw": "A cat."}]},
            {"cocoid": 9, "split": "train", "sentences": [{"raw": "A dog."}]},
        ]
    }
    assert get_metric("rouge_l")([{"image_id": 7, "caption": "A cat"}], karpathy).value == 1
    # Without a tokeniser, "cat." is another word than "cat".
    assert get_metric("bleu:split")({"1": "a cat."}, {"1": "a cat"}).values["Bleu_1"] == pytest.approx(0.5)


def test_wrong_caption_files_are_named():
    references = {"annotations": [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}]}
    with pytest.raises(ZooError, match="missing: '2'"):
        get_metric("cider")([{"image_id": 1, "caption": "a"}], references)
    with pytest.raises(ZooError, match="'1' more than once"):
        get_metric("cider")([{"image_id": 1, "caption": "a"}] * 2, references)
    with pytest.raises(ZooError, match="'1' is None; it must be one text"):
        get_metric("cider")({"1": None, "2": "b"}, references)


def test_tools_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    for name in ("meteor", "spice", "cider:java"):
        with pytest.raises(ZooError, match="pip install pycocoevalcap"):
            get_metric(name)({"1": "a"}, {"1": ["a"]})


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_longest_common_subsequence(first, second):
    length = longest_common_subsequence(first, second)
    assert length == longest_common_subsequence(second, first)
    assert length <= min(len(first), len(second))
    assert longest_common_subsequence(first, first) == len(first)
    assert longest_common_subsequence([*first, "c"], [*second, "c"]) == length + 1


WORDS = "a the man dog cat bus red two in-front T-shirt man's isn't (sign) u.s. on of , .".split()


def _corpus(seed, num_images):
    draw = random.Random(seed)
    references = {str(at): [_caption(draw) for _ in range(draw.randint(1, 5))] for at in range(num_images)}
    said = {name: draw.choice([*captions, _caption(draw), ""]) for name, captions in references.items()}
    return said, references


def _caption(draw):
    return " ".join(draw.choices(WORDS, k=draw.randint(1, 10))) + draw.choice(["", ".", "!"])


@pytest.mark.skipif(not HAS_PYCOCOEVALCAP, reason="pycocoevalcap is not installed")
@pytest.mark.parametrize("num_images", [1, 2, 40])
def test_scores_equal_those_of_pycocoevalcap(num_images):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said, references = _corpus(num_images, num_images)
    tokens = {name: [" ".join(tokenise(caption)) for caption in captions] for name, captions in references.items()}
    candidates = {name: [" ".join(tokenise(caption))] for name, caption in said.items()}
    result = get_metric("captions:ptb")(said, references)
    official_bleu, _ = Bleu(4).compute_score(tokens, candidates, verbose=0)
    official_rouge, _ = Rouge().compute_score(tokens, candidates)
    official_cider, items = Cider().compute_score(tokens, candidates)
    assert [result.values[f"Bleu_{n}"] for n in range(1, 5)] == pytest.approx(official_bleu, rel=1e-12)
    assert result.values["ROUGE_L"] == pytest.approx(official_rouge, rel=1e-12)
    assert result.values["CIDEr"] == pytest.approx(official_cider, rel=1e-12)
    assert list(get_metric("cider")(said, references).items.values()) == pytest.approx(list(items), rel=1e-12)


@pytest.mark.skipif(not (HAS_PYCOCOEVALCAP and HAS_JAVA), reason="pycocoevalcap or Java is not installed")
def test_tokens_equal_those_of_java():
    said, references = _corpus(5, 60)
    captions = [*said.values(), *(caption for several in references.values() for caption in several)]
    assert [" ".join(tokenise(caption)) for caption in captions] == java.tokenise_all(captions)
