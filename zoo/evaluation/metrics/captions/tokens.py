"""Tokens of captions: Stanford's PTB tokeniser, whose tokens the caption scores of COCO count, written in Python.

pycocoevalcap runs PTBTokenizer of Stanford CoreNLP 3.4.1 (Java) with ``-preserveLines -lowerCase`` and then drops a
list of marks. Here the rules of that lexer that captions meet are regular expressions; the longest match wins, context
behind it included, and of equal ones the first, as in the original. Its quirks are kept: the dropped marks are spelt in
capitals, but the text is in lower case by then, so that brackets ("-lrb-") stay, as does "?!".

The Java lexer reads all captions as one text, where "no." at the end of one keeps its period if the next begins with a
number; here a caption's tokens do not depend on its neighbours.
"""

import re
from collections.abc import Iterator

DROPPED = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

# With a period behind them these stand for a token that keeps it, in any case, ...
_ABBREVIATIONS = """
al cf co ct dr ft ga jr ky lt md mo mr ms mt ph rd rt sq sr st va vs vt wm adj adm adv ala apr aug ave bhd cie col cos
cpl dak dec det drs ens esq est etc ext feb fla fri gen gov hon inc ind jan jos jul jun kan ltd maj mar mfg mme mon mrs
mtg neb nev nov oct pfc plc pte pty pvt rep rev sen sep seq sfc sgt spc ste sys tel thu tue wed wis wyo alex ariz assn
asst atty bldg blvd brig bros capt cmdr colo conn corp dept elec govs insp intl invt kans mich minn mlle mont msgr natl
okla penn ppte ppty pres prof ptes ptys reps sens sept supt tenn tues univ wisc assoc attys calif comdr lieut profs
supts thurs treas messrs bancorp
""".split()
# ... these with a capital, ...
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash".split()
# ... and these before a number.
_BEFORE_NUMBER = "art ca fig figs no nos op pp prop".split()

_APOSTROPHE = r"(?:['\u0092\u2019]|&apos;)"
_QUOTE = r"(?:['\u0092\u2019`\u0091\u2018\u201b]|&apos;)"
_LETTER = r"[^\W\d_]"
_ALNUM = r"[^\W_]"
_PIECE = rf"(?:[dDoOlL]{_QUOTE}(?={_LETTER}))?{_ALNUM}+(?:_{_ALNUM}+)*"
_WORD = rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*"
_TAG = r"[A-Za-z][A-Za-z0-9_:.\-]*"
_URL_END = r"[^ \t\n\f\r\"<>|.!?(){},\-]"
_SYMBOLS = (
    r"[#$%&*+/<=>@\\^_|~\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b1\u00b4\u00b6-\u00b8\u00bf\u00d7\u00f7\u02c2-\u02df\u0300-"
    r"\u036f\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038\u203b\u203e-\u2044\u207a-\u207e\u208a-\u208e\u20a4\u2100-\u214f"
    r"\u2190-\u245f\u249c-\u24e9\u2500-\u2775\u2794-\u2bff\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)


def _any(words: list[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


# The token is the group "token" where there is one; what a rule matches behind it is context and counts as length.
_RULES = tuple(
    re.compile(rule)
    for rule in (
        rf"</?{_TAG}(?: +{_TAG}(?:=(?:'[^'\r\n]*'|\"[^\"\r\n]*\"))?)* */?>",
        r"<[^ \t\r\n<>|()\"]+@[^ \t\r\n<>|()\"]+>",
        r"<[!?][A-Za-z\-][^>\r\n]*>",
        rf"https?://[^ \t\n\f\r\"<>|()]+{_URL_END}",
        rf"(?:www\.(?:[^ \t\n\f\r\"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}"
        # The range from comma to underscore is the original's: it shuts out digits, capitals and square brackets.
        rf"|(?:[^ \t\n\f\r\"`'<>|.!?(){{}},-_$]+\.)+(?:com|net|org|edu))(?:/[^ \t\n\f\r\"<>|()]+{_URL_END})?",
        r"[a-zA-Z0-9][^ \t\n\f\r\"<>|()\u00a0]*@(?:[^ \t\n\f\r\"<>|().\u00a0]+\.)*[^ \t\n\f\r\"<>|().,;:!?\u00a0]+",
        r"(?:@[A-Za-z_]|#[A-Za-z])[A-Za-z_0-9]*",
        # Contractions: "can" of "cannot", "is" of "isn't", "y'" of "y'all", "'t" of "'tis", then what is left of them.
        r"(?i:(?P<token>can(?=not)|gon(?=na)|wan(?=na)|got(?=ta)|lem(?=me)|gim(?=me))(?:not|na|ta|me))(?![^\W_])",
        rf"(?P<token>[A-Za-z]*[A-MO-Za-mo-z])[nN]{_QUOTE}[tT]",
        rf"[nN]{_QUOTE}[tT]",
        rf"(?P<token>[yY]{_APOSTROPHE}){_LETTER}",
        rf"(?P<token>{_APOSTROPHE}[tT])(?i:is|was)(?![^\W_])",
        rf"(?P<token>{_WORD}){_APOSTROPHE}(?:[msdMSD]|re|ve|ll|RE|VE|LL)",
        rf"(?P<token>{_APOSTROPHE}(?:[msdMSD]|re|ve|ll|RE|VE|LL))(?:[^A-Za-z]|$)",
        rf"{_APOSTROPHE}[nN](?:{_APOSTROPHE}|(?![A-Za-z.]))|(?i:[ldj]|ol|somethin|dunkin){_APOSTROPHE}"
        rf"|{_APOSTROPHE}(?i:em|till?|cause|[2-9]0s)|(?i:c{_APOSTROPHE}mon|o{_APOSTROPHE}clock|ma{_APOSTROPHE}am)",
        r"\d{1,2}[\-/]\d{1,2}[\-/]\d{2,4}",
        r"[+\-]?(?:\d*(?:[.:,\u066b\u066c]\d+)+|\d+)",
        r"(?:\d{1,4}[\- \u00a0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}",
        r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}",
        rf"{_PIECE}(?:[\-\u2010\u2011]{_PIECE})*",
        _WORD,
        rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:[A-Za-z0-9\u00ad]+|[A-Za-z](?:\.[A-Za-z])*\.|(?i:{_any(_ABBREVIATIONS)})\.))+",
        r"\d+(?:\.\d+)*\.x(?![^\W_])",
        r"\(\d{3}\)[ \u00a0]?\d{3}[\- ]\d{4}",
        r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+",
        r"[cC](?:\+\+|#)",
        r"[A-Za-z](?:\.[A-Za-z])*\.",
        rf"(?i:ph\.d|ed\.d|{_any(_ABBREVIATIONS)})\.",
        rf"(?:{_any(_CAPITALISED)}|{_any([word.upper() for word in _CAPITALISED])})\.",
        rf"(?P<token>(?i:{_any(_BEFORE_NUMBER)})\.)[ \u00a0]?\d",
        rf"(?P<token>(?:{_WORD}|{_PIECE}(?:-{_PIECE})*)\.)[,;:\u3001]",
        r"[A-Z]*\$",
        r"[<>]?[:;=][\-o*']?[()DPdpO\\{@|\[\]](?![A-Za-z0-9])",
        r"[\-^x=~<>']_[\-^x=~<>']|\([\-^x=~<>'][_.]?[\-^x=~<>']\)",
        r"\.{3,5}|-{2,}|<<|>>|[?!]{2,}|\\?\*+|_+|@+|#+",
        r"&(?:amp|lt|gt|quot|apos|#[0-9]+);",
        r"[.,:;?!\-\u00ad\u2013-\u2015\u0096\u0097\u2026\u3001\u3002]",
        r"[()\[\]{}]",
        r"''|``|[\"'`\u0091-\u0094\u2018-\u201f\u00ab\u00bb\u2039\u203a]",
        r"[\u00a2-\u00a4\u20a0\u20ac\u00bc-\u00be\u2153\u2154]",
        _SYMBOLS,
    )
)  # fmt: skip

_SPELLED = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&apos;": "'", "&quot;": "''",
    "\u00a2": "cents", "\u00a3": "#", "\u00a4": "$", "\u0080": "$", "\u20a0": "$", "\u20ac": "$",
    "\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3",
}  # fmt: skip
_PARTS = re.compile(r"[()]|&(?:amp|lt|gt|apos|quot);")
_QUOTES = re.compile(r"[\"\u0091-\u0094\u2018-\u201f\u00ab\u00bb\u2039\u203a]")
_DASHES = re.compile(r"-{2,4}|[\u2013-\u2015\u0096\u0097]")


def tokenise(caption: str) -> list[str]:
    """The tokens that scores count: lower case, marks dropped."""
    text = caption.replace("\n", " ").replace("&nbsp;", " ")
    return [token for token in ptb_tokens(text) if token not in DROPPED]


# Most words are plain and end at a blank: no rule but those that split a word could match further or otherwise.
_PLAIN = re.compile(r"[A-Za-z]+(?= |$)")
_SPLIT_WORDS = frozenset(["cannot", "gonna", "wanna", "gotta", "lemme", "gimme"])


def ptb_tokens(text: str) -> Iterator[str]:
    """All tokens in lower case, marks included; a character that no rule knows (most emoji) is passed over."""
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        if (at == 0 or text[at - 1] == " ") and (plain := _PLAIN.match(text, at)):
            word = plain[0].lower()
            if word not in _SPLIT_WORDS:
                at = plain.end()
                yield word
                continue
        best, best_end = None, at
        for rule in _RULES:
            found = rule.match(text, at)
            if found and found.end() > best_end:
                best, best_end = found, found.end()
        if best is None:
            at += 1
            continue
        token = best["token"] if "token" in best.re.groupindex else best[0]
        at += len(token)
        yield _spelled(token)


def _spelled(token: str) -> str:
    if (token[0] == "." and len(token) > 1 and set(token) == {"."}) or token == "\u2026":
        return "..."
    if _DASHES.fullmatch(token):
        return "--"
    if _QUOTES.fullmatch(token):
        return "'"
    if token == "\u00ad":
        return "-"
    if len(token) > 1 and (token[0] in "\u2019\u0092" or (token[-2] in "\u2019\u0092" and token[0] in "nN")):
        token = token.replace("\u2019", "'").replace("\u0092", "'")
    if len(token) == 1:
        return _SPELLED.get(token, token.lower())
    return _PARTS.sub(lambda part: _SPELLED[part[0]], token).lower().replace(" ", "\u00a0")
