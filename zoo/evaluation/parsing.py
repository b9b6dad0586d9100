"""Read a yes or a no out of generated text. Which rule is used moves POPE by points, so each rule has a name."""

import re
from collections.abc import Callable

from zoo.errors import ZooError, nearest


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


YES_NO_RULES: dict[str, Callable[[str], str | None]] = {"official": official, "lower": lower, "strict": strict}


def parse_yes_no(text: str, rule: str = "strict") -> str | None:
    """``"yes"``, ``"no"``, or None where the rule finds neither. Raises ZooError on an unknown rule."""
    if rule not in YES_NO_RULES:
        raise ZooError(f"yes/no rule {rule!r} is unknown.{nearest(rule, list(YES_NO_RULES))}")
    return YES_NO_RULES[rule](text)


def normalise_answer(text: str) -> str:
    """Lower case, outer white space and one trailing full stop removed. Articles, number words, punctuation stay."""
    return text.strip().lower().removesuffix(".").rstrip()
