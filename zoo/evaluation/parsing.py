"""Read a yes, a no or an option's letter out of generated text. The rule moves scores by points, so each has a name."""

import re
from collections.abc import Callable, Mapping

from zoo.errors import ZooError, nearest
from zoo.evaluation.normalise import PERIOD_NOT_BY_DIGIT, strip_punctuation


def official(text: str) -> str:
    """The rule of POPE's evaluate.py: no if a token of the first sentence is ``No``, ``no`` or ``not``, otherwise yes.

    Its quirks are kept, because published numbers contain them: "NO", "None", "isn't" and the empty string are a yes.
    """
    tokens = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(tokens) else "yes"


def lower(text: str) -> str:
    """The official rule on lower-cased text (as Otter evaluates): "NO" is a no; text without either is still a yes."""
    return official(text.lower())


def strict(text: str) -> str | None:
    """The one of yes and no that occurs as a word, whatever its case and punctuation; None if neither or both do."""
    found = {"yes", "no"} & set(re.findall(r"[^\W_]+", text.lower()))
    return found.pop() if len(found) == 1 else None


def whole(text: str) -> str | None:
    """The lower-cased answer if it is yes or no and nothing else (lmms-eval's POPE: "Yes." is neither)."""
    found = text.lower().strip()
    return found if found in ("yes", "no") else None


def vlmevalkit(text: str) -> str | None:
    """The one of yes and no among the words left after VQA's punctuation rule (VLMEvalKit, dataset/utils/yorn.py)."""
    words = strip_punctuation(text.lower(), period=PERIOD_NOT_BY_DIGIT).split()
    found = {"yes", "no"} & set(words)
    return found.pop() if len(found) == 1 else None


def shikra(text: str) -> str | None:
    """What stands in the single "The answer is X ." of an answer, if it is yes or no (Shikra's POPE evaluation)."""
    answer = stated_answer(text)
    return answer if answer in ("yes", "no") else None


def stated_answer(text: str) -> str | None:
    """What stands between "The answer is" and the next period, where that occurs once (Shikra's point_qa.py)."""
    found = re.findall(r"The answer is (.+?)\.", text.strip())
    return found[0].strip() if len(found) == 1 else None


YES_NO_RULES: dict[str, Callable[[str], str | None]] = {
    "official": official,
    "lower": lower,
    "strict": strict,
    "whole": whole,
    "vlmevalkit": vlmevalkit,
    "shikra": shikra,
}


def parse_yes_no(text: str, rule: str = "strict") -> str | None:
    """``"yes"``, ``"no"``, or None where the rule finds neither. Raises ZooError on an unknown rule."""
    if rule not in YES_NO_RULES:
        raise ZooError(f"yes/no rule {rule!r} is unknown.{nearest(rule, list(YES_NO_RULES))}")
    return YES_NO_RULES[rule](text)


def normalise_answer(text: str) -> str:
    """Lower case, outer white space and one trailing full stop removed. Articles, number words, punctuation stay."""
    return text.strip().lower().removesuffix(".").rstrip()


SCIENCEQA_LETTERS = "ABCDE"


def scienceqa_letter(text: str) -> str | None:
    """LLaVA's rule for ScienceQA (eval_science_qa.py): the letter alone, "X. " before more, or one "The answer is X?".

    Not stripped: "A.", "(A)", " A" and "B" with a line break behind it are None. In the last form X is any capital and
    one more character must follow, whichever it is.
    """
    if len(text) == 1 and text in SCIENCEQA_LETTERS:
        return text
    if len(text) >= 3 and text[0] in SCIENCEQA_LETTERS and text[1:3] == ". ":
        return text[0]
    found = re.findall(r"The answer is ([A-Z]).", text)
    return found[0] if len(found) == 1 else None


def scienceqa_official_letter(text: str) -> str | None:
    """The rule of ScienceQA's own run_gpt3.py: one "The answer is X." with any capital and any character behind it."""
    found = re.findall(r"The answer is ([A-Z]).", text)
    return found[0] if len(found) == 1 else None


def scienceqa_robust_letter(text: str) -> str | None:
    """A letter at the beginning with nothing or a mark behind it ("A bird" is none); else the one after "answer is"."""
    if found := re.match(r"\s*\(?([A-E])(?:[.):]+(?=\s|$)|\s*$)", text):
        return found[1]
    stated = set(re.findall(r"[Aa]nswer is:?\s+\(?([A-E])\b", text))
    return stated.pop() if len(stated) == 1 else None


def leading_letter(text: str) -> str | None:
    """lmms-eval's ScienceQA: a letter alone in either case, or a capital with a period behind it at the beginning."""
    text = text.strip()
    if len(text) == 1:
        return text.upper()
    return text[0] if len(text) >= 2 and text[0].isupper() and text[1] == "." else None


REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
API_FAILURE = "Failed to obtain answer via API"
NONE_OF_THEM = "Z"
_OPTION_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_STATED = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)
NUM_LAST_TOKENS = 4


def option_letter(text: str, options: Mapping[str, str]) -> str | None:
    """The option an answer chooses by VLMEvalKit's rules (utils/matching_util.py), without a judge.

    In this order: the only option letter among the tokens, if it first occurs among the last four (so "A blue bus" is
    A); "answer is X" with whatever follows X (so "answer is blue" is B); the only option whose text occurs in the
    answer, unless the answer is more than twice as long as all options together ("nothing" holds "no"). A refusal, or
    the token Z without an option letter, is Z, which no option has.

    Args:
        text: the answer.
        options: letter to text.
    """
    return _by_letter(text, options) or _by_text(text, options)


def _by_letter(text: str, options: Mapping[str, str]) -> str | None:
    if API_FAILURE in text:
        return None
    if any(refusal in text for refusal in REFUSALS):
        return NONE_OF_THEM
    tokens = text.translate(_OPTION_MARKS).split()
    found = [letter for letter in options if letter in tokens]
    if len(found) == 1 and tokens.index(found[0]) >= len(tokens) - NUM_LAST_TOKENS:
        return found[0]
    if not found and NONE_OF_THEM in tokens:
        return NONE_OF_THEM
    stated = _STATED.search(text)
    return stated[1].upper() if stated and stated[1].upper() in options else None


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    text = text.lower()
    if len(text) > 2 * sum(len(option) for option in options.values()):
        return None
    found = [letter for letter, option in options.items() if option.lower() in text]
    return found[0] if len(found) == 1 else None
