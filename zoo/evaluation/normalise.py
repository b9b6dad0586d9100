"""The answer normalisation of VQA evaluation: punctuation, number words, articles, contractions.

Source: VQAEval.processPunctuation and processDigitArticle of GT-Vision-Lab/VQA (PythonEvaluationTools), which the other
projects copied; what differs between the copies is an argument here. Quirks are kept, since published numbers contain
them: "3." loses its period because the published look-behind is mistyped, and at most 32 periods are removed because a
flag stands where the count belongs.
"""

import re

MARKS = ';/[]"{}()=+\\_-><@`,?!'
MAX_PERIODS = int(re.UNICODE)

NUMBER_WORDS = {
    word: digits
    for digits, words in enumerate("none/zero one two three four five six seven eight nine ten".split())
    for word, digits in ((one, str(digits)) for one in words.split("/"))
}
ARTICLES = frozenset({"a", "an", "the"})

# Spelt as they come out; the key of the published table lacks one apostrophe of the spelling, each of them in turn.
_SPELLINGS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
CONTRACTIONS = {
    spelling[:at] + spelling[at + 1 :]: spelling
    for spelling in _SPELLINGS
    for at, letter in enumerate(spelling)
    if letter == "'"
}
# The one entry that removes an apostrophe. Entries with a capital are left out: they are looked up in lower case.
CONTRACTIONS["somebody'd"] = "somebodyd"

SINGLE_COMMA = re.compile(r"\d,\d")
COMMA_RUN = re.compile(r"\d,+\d")
PERIOD = re.compile(r"\.(?!\d)")
PERIOD_NOT_BY_DIGIT = re.compile(r"(?<!\d)\.(?!\d)")


def flatten(text: str) -> str:
    """Line breaks and tabs become blanks, the ends are stripped."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str, *, comma: re.Pattern[str] = SINGLE_COMMA, period: re.Pattern[str] = PERIOD) -> str:
    """Marks disappear or become blanks, most periods disappear.

    A mark disappears where the text has it beside a blank anywhere, or has a number with a comma anywhere; else every
    occurrence becomes a blank. Kept are ``' : & % $ # * ~ ^ |`` and everything beyond ASCII.

    Args:
        comma: what counts as a number with a comma.
        period: which periods disappear.
    """
    all_vanish = comma.search(text) is not None
    table = {
        ord(mark): "" if all_vanish or f"{mark} " in text or f" {mark}" in text else " "
        for mark in MARKS
        if mark in text
    }
    return period.sub("", text.translate(table), count=MAX_PERIODS)


def simplify_words(text: str) -> str:
    """Lower case, number words up to ten as digits, no articles, contractions with their apostrophes."""
    words = [NUMBER_WORDS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise_vqa(text: str, *, comma: re.Pattern[str] = SINGLE_COMMA, period: re.Pattern[str] = PERIOD) -> str:
    """Both steps on flattened text."""
    return simplify_words(strip_punctuation(flatten(text), comma=comma, period=period))


def normalise_m4c(text: str) -> str:
    """The answer processor of M4C (MMF, LLaVA's TextVQA): commas, question marks and "'s" are treated beforehand.

    Source: EvalAIAnswerProcessor of llava/eval/m4c_evaluator.py.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalise_vqa(text)
