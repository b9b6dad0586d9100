"""What must be known of a tokenizer to write conversations with it: special tokens, BOS, how text continues text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from zoo.data.template import Template
from zoo.errors import ZooError

# Short texts that are tokens of their own in most vocabularies; the character before the text is tried first.
_ANCHORS = (":", "a", "\n", ".", "0")
_MEMORISED_LENGTH, _MEMORY_SIZE = 200, 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Atom:
    """Text, a token by id, a medium, or the region feature of a box. ``text`` of a token is its spelling."""

    text: str = ""
    token_id: int | None = None
    is_medium: bool = False
    is_bos: bool = False
    region_box: int | None = None
    supervised: bool = False

    @property
    def is_text(self) -> bool:
        return self.token_id is None and not self.is_medium and self.region_box is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """What must be known of a tokenizer, computed once. ``template`` is the form in use, as the tokenizer can spell it;
    ``special`` the strings that are special tokens; ``memory`` the ids of short texts, since templates and
    questions come again and again.
    """

    template: Template
    special: Mapping[str, int]
    forbidden_ids: frozenset[int]
    has_bos: bool
    unknown_id: int | None
    literal: re.Pattern[str]
    literal_start: re.Pattern[str]
    memory: dict[str, list[int]] = field(default_factory=dict)

    def trusted(self, text: str, supervised: bool) -> Iterator[Atom]:
        """Text of the template or of a box format: special tokens in it are meant."""
        position = 0
        for match in self.literal.finditer(text):
            yield Atom(text=text[position : match.start()], supervised=supervised)
            yield Atom(text=match.group(), token_id=self.special[match.group()], supervised=supervised)
            position = match.end()
        yield Atom(text=text[position:], supervised=supervised)

    def text_ids(self, tokenizer: PreTrainedTokenizerBase, text: str, before: Atom | None, sample_id: str) -> list[int]:
        """Ids of text in which no special token is meant; ``before`` is what stands before it in its chunk."""
        cuts = [0, *(match.start() + 1 for match in self.literal_start.finditer(text)), len(text)]
        ids: list[int] = []
        for start, stop in pairwise(cuts):
            piece = text[start:stop]
            ids += self.continuation(tokenizer, piece, before)
            before = Atom(text=piece)
        if not self.forbidden_ids.isdisjoint(ids):
            names = sorted(name for name, index in self.special.items() if index in ids and index != self.unknown_id)
            raise ZooError(
                f"sample {sample_id!r}: the tokenizer reads the special token {names[0]!r} into plain text; "
                "remove it from the text or register the token under another spelling"
            )
        return ids

    def continuation(self, tokenizer: PreTrainedTokenizerBase, text: str, before: Atom | None) -> list[int]:
        """Ids of text as it is tokenised behind ``before``; None: at the beginning of a text."""
        if before is None:
            return self.tokenised(tokenizer, text)
        if before.token_id is not None:
            ids = self.tokenised(tokenizer, before.text + text)
            if ids[:1] == [before.token_id]:
                return ids[1:]
        for anchor in _ANCHORS if before.token_id is not None else (before.text[-1:], *_ANCHORS):
            anchor_ids = self.tokenised(tokenizer, anchor)
            # Unknown characters in a row may become one unknown token, which would swallow the text.
            if not anchor_ids or self.unknown_id in anchor_ids:
                continue
            ids = self.tokenised(tokenizer, anchor + text)
            if ids[: len(anchor_ids)] == anchor_ids:
                return ids[len(anchor_ids) :]
        return self.tokenised(tokenizer, text)

    def tokenised(self, tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
        """Ids of a text of its own, without special tokens around it; not to be changed by the caller."""
        if (known := self.memory.get(text)) is not None:
            return known
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(text) <= _MEMORISED_LENGTH:
            if len(self.memory) >= _MEMORY_SIZE:
                self.memory.clear()
            self.memory[text] = ids
        return ids


_VOCABULARIES: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple, Vocabulary]] = WeakKeyDictionary()


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, template: Template, generation: bool) -> Vocabulary:
    """What is known of a tokenizer for a template, in its inference form for generation; examined once.

    Raises ZooError when the template ends answers with an EOS that the tokenizer lacks.
    """
    if generation and template.inference is not None:
        template = template.inference
    # Tokens may be added, or special tokens renamed, after the first use.
    key = (template, len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    known = _VOCABULARIES.setdefault(tokenizer, {})
    if key not in known:
        known[key] = _examine(tokenizer, template)
    return known[key]


def _examine(tokenizer: PreTrainedTokenizerBase, template: Template) -> Vocabulary:
    special = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    special |= {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    entries = tokenizer.get_vocab() if template.marks else {}
    special |= {mark: entries[mark] for mark in template.marks if mark in entries}
    longest_first = sorted((token for token in special if token), key=len, reverse=True)
    either = "|".join(re.escape(token) for token in longest_first) or r"(?!)"
    vocabulary = Vocabulary(
        template=template,
        special=special,
        forbidden_ids=frozenset(special.values()) - {tokenizer.unk_token_id},
        has_bos=template.bos and _has_bos(tokenizer),
        unknown_id=tokenizer.unk_token_id,
        literal=re.compile(either),
        literal_start=re.compile(f"(?={either})", re.IGNORECASE),
    )
    if not template.eos and template.end not in special:
        end_ids = vocabulary.continuation(tokenizer, template.end, Atom(text=" "))
        # Word vocabularies that take punctuation in a row for one word read ".###" as an unknown one.
        stop = vocabulary.tokenised(tokenizer, ".")
        glued = set(vocabulary.tokenised(tokenizer, "." + template.end)) - set(stop)
        if not end_ids or tokenizer.unk_token_id in (*end_ids, *glued):
            template = replace(template, end="", eos=True)
    if template.eos and tokenizer.eos_token_id is None:
        raise ZooError(
            f"template {template.name!r} ends answers with EOS but the tokenizer {tokenizer.name_or_path!r} has none; "
            "set its eos_token or choose a template with another end of turn"
        )
    return replace(vocabulary, template=template)


def _has_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    if tokenizer.bos_token_id is None:
        return False
    if tokenizer.bos_token_id != tokenizer.eos_token_id:
        return True
    # One token for both: GPT-2 and GPT-NeoX never begin a text with it, OPT always does.
    return tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
