"""A sample to ids, labels and media positions, in one pass: the loss mask is never searched for afterwards.

The rule of segmentation:

1. The rendered conversation is cut into chunks at media placeholders. A chunk begins like a text of its own (a
   SentencePiece tokenizer puts its dummy prefix there), as in LLaVA's ``tokenizer_image_token``.
2. BOS, EOS and the template's marks are placed by id. Special tokens that a user typed stay text: such a string is cut
   after its first character and its halves are tokenised apart.
3. Within a chunk, neighbouring text of the same supervision is tokenised at once, so the whole prompt up to
   ``ASSISTANT:`` is one call, and `` answer`` with its leading blank another. An answer begins a text of its own even
   behind another answer (captions without a question between), whose end of turn has to stay the token that it is.
4. Text that follows text or a special token is tokenised as a continuation: together with something before it (an
   anchor), whose ids are then dropped. So an answer gets no dummy prefix, and what follows ``</s>`` gets one exactly
   where the tokenizer itself puts one there (legacy Llama tokenizers do, the others do not).

For Llama's SentencePiece tokenizers no token crosses from a word into the blank after it, the boundaries of rule 3
stand before a blank, and the ids are therefore those of tokenising the whole string at once, as the official code does
(in the ChatML family the boundary follows a newline, which an answer's own first newline could join). For every
tokenizer, no token holds text of both prompt and answer, the decoded supervised ids are exactly the supervised answers
with their end of turn, and a generation prompt is a prefix of the ids trained on, up to the supervised answer
(``llava_v0`` excepted: its prompt is another string).

A tokenizer that cannot spell a template's end of turn (it drops newlines, has no ``#``, or joins it to a full stop)
gets EOS in its place: an end that is no token, or the unknown token, would teach a model not to stop.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from zoo.data.sample import BOX_PLACEHOLDER, PLACEHOLDER_PATTERN, Box, Sample
from zoo.data.template import Segment, Template
from zoo.data.vocabulary import Atom, Vocabulary, vocabulary_of
from zoo.errors import ZooError

MEDIA_ID = -200
REGION_ID = -201
IGNORED_LABEL = -100


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One sequence. ``ids``, ``labels``: (length,) int64, labels IGNORED_LABEL where unsupervised and not shifted;
    ``media_mask``: (length,) bool, True where ids are MEDIA_ID; ``media_runs``: (start, length) for each medium, in
    order. ``region_boxes``: indices of the sample's boxes that stand as region features, in order; their positions have
    REGION_ID. ``target``: the answer's ids for an encoder-decoder, whose ``ids`` are the encoder's input alone. The
    counts are numbers of supervised tokens, after and before truncation at ``max_length``.
    """

    ids: Tensor
    labels: Tensor
    media_mask: Tensor
    media_runs: tuple[tuple[int, int], ...]
    num_supervised: int
    num_supervised_before_truncation: int
    truncated: bool
    region_boxes: tuple[int, ...] = ()
    target: Tensor | None = None


def encode(
    sample: Sample,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_media_tokens: Sequence[int],
    box_text: Callable[[Box], str] | None = None,
    region_prompt: str = "",
    max_length: int | None = None,
    generation: bool = False,
    encoder_decoder: bool = False,
) -> Encoded:
    """Encode a sample by the rule above.

    ``num_media_tokens[i]`` positions stand for the i-th medium (0 is allowed). ``box_text`` writes a box as text; added
    tokens in it become their ids. ``region_prompt`` is written for a user's box instead, where a method has region
    features: ``{region}`` in it is the feature's position, ``{number}`` counts from 1. ``max_length`` cuts the right
    end. ``generation`` leaves a trailing assistant turn out and ends with the opening of the assistant's turn, in the
    template's inference form.

    For an ``encoder_decoder`` language model the last answer is the decoder's target, and what stands before it the
    encoder's input, closed by EOS as its tokenizers do. Earlier answers are context: one decoder has one target.

    Raises ZooError when placeholders and media disagree, boxes have no ``box_text``, the template ends answers with an
    EOS that the tokenizer lacks, or a medium does not fit into ``max_length``.
    """
    sample.validate()
    if len(num_media_tokens) != len(sample.media):
        raise ZooError(
            f"sample {sample.id!r}: num_media_tokens has {len(num_media_tokens)} entries for {len(sample.media)} "
            "media; give one number for each"
        )
    vocabulary = vocabulary_of(tokenizer, template, generation)
    segments = vocabulary.template.render(sample.messages, generation=generation, sample_id=sample.id)
    target: Tensor | None = None
    if encoder_decoder:
        segments, target = _split_target(segments, sample, tokenizer, vocabulary, box_text)
    ids: list[int] = []
    labels: list[int] = []
    media_runs: list[tuple[int, int]] = []
    region_boxes: list[int] = []
    before: Atom | None = None
    for atom in _joined(_atoms(segments, sample, tokenizer, vocabulary, box_text, region_prompt)):
        if atom.region_box is not None:
            region_boxes.append(atom.region_box)
            new_ids, before = [REGION_ID], None
        elif atom.is_medium:
            length = num_media_tokens[len(media_runs)]
            media_runs.append((len(ids), length))
            new_ids, before = [MEDIA_ID] * length, None
        elif atom.token_id is not None:
            # The first BOS is no context: a tokenizer that puts it itself begins the text after it as at the beginning.
            is_first_bos = atom.is_bos and all(token == MEDIA_ID for token in ids)
            new_ids, before = [atom.token_id], None if is_first_bos else atom
        else:
            new_ids, before = vocabulary.text_ids(tokenizer, atom.text, before, sample.id), atom
        ids += new_ids
        labels += new_ids if atom.supervised else [IGNORED_LABEL] * len(new_ids)
    return _assemble(sample.id, ids, labels, media_runs, region_boxes, target, max_length)


def _split_target(
    segments: Sequence[Segment],
    sample: Sample,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    box_text: Callable[[Box], str] | None,
) -> tuple[list[Segment], Tensor | None]:
    """The encoder's segments, without supervision and with EOS at the end, and the ids of the last answer, if any."""
    last = max((segment.turn for segment in segments), default=-1)
    answer = [segment for segment in segments if segment.turn == last and segment.is_answer]
    if answer:  # what the template writes behind the answer belongs to neither
        first = next(index for index, segment in enumerate(segments) if segment is answer[0])
        segments = segments[:first]
    source = [replace(segment, supervised=False) for segment in segments]
    if tokenizer.eos_token_id is not None:
        source.append(Segment(token="eos"))
    if not any(segment.supervised for segment in answer):
        return source, None
    ids: list[int] = []
    before: Atom | None = None
    for atom in _joined(_atoms(answer, sample, tokenizer, vocabulary, box_text, "")):
        token = atom.token_id
        ids += vocabulary.text_ids(tokenizer, atom.text, before, sample.id) if token is None else [token]
        before = atom
    return source, torch.tensor(ids, dtype=torch.int64)


def stop_ids(template: Template, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids that end an answer when generated: the tokenizer's EOS and the template's end mark where it is one token."""
    vocabulary = vocabulary_of(tokenizer, template, True)
    end_id = vocabulary.special.get(vocabulary.template.end)
    return tuple(dict.fromkeys(token for token in (tokenizer.eos_token_id, end_id) if token is not None))


def stop_strings(template: Template, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Strings that end an answer when they appear in the decoded text: the end of turn where no single id is it."""
    vocabulary = vocabulary_of(tokenizer, template, True)
    form = vocabulary.template
    return () if form.eos or form.end in vocabulary.special else (form.end,)


def _atoms(
    segments: Sequence[Segment],
    sample: Sample,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    box_text: Callable[[Box], str] | None,
    region_prompt: str,
) -> Iterator[Atom]:
    num_regions, turn = 0, -1
    for segment in segments:
        if segment.is_answer and segment.turn != turn:
            turn = segment.turn
            yield Atom()
        if segment.token == "bos":
            if vocabulary.has_bos:
                yield Atom(text=tokenizer.bos_token, token_id=tokenizer.bos_token_id, is_bos=True)
            continue
        if segment.token == "eos":
            is_bos = segment.turn < 0 and vocabulary.template.bos_is_eos
            eos = {"text": tokenizer.eos_token, "token_id": tokenizer.eos_token_id}
            yield Atom(**eos, supervised=segment.supervised, is_bos=is_bos)
            continue
        if segment.from_template and not PLACEHOLDER_PATTERN.search(segment.text):
            yield from vocabulary.trusted(segment.text, segment.supervised)
            continue
        box_index, position, closing = segment.first_box, 0, ""
        for match in PLACEHOLDER_PATTERN.finditer(segment.text):
            yield Atom(text=segment.text[position : match.start()], supervised=segment.supervised)
            adjoining, position = position == match.start(), match.end()
            if match.group() != BOX_PLACEHOLDER:
                form = vocabulary.template.image if match.group() == "<image>" else vocabulary.template.video
                before = closing if adjoining else ""
                opening, _, closing = form.partition("{media}")
                if not (opening and before.endswith(opening)):
                    yield from vocabulary.trusted(opening, False)
                yield Atom(is_medium=True)
                yield from vocabulary.trusted(closing, False)
                continue
            if region_prompt and not segment.is_answer:
                num_regions += 1
                opening, _, closing = region_prompt.replace("{number}", str(num_regions)).partition("{region}")
                yield from vocabulary.trusted(opening, False)
                yield Atom(region_box=box_index)
                yield from vocabulary.trusted(closing, False)
                box_index += 1
                continue
            if box_text is None:
                raise ZooError(f"sample {sample.id!r}: has boxes but no box_text was given; choose a box format")
            yield from vocabulary.trusted(box_text(sample.boxes[box_index]), segment.supervised)
            box_index += 1
        yield Atom(text=segment.text[position:], supervised=segment.supervised)


def _joined(atoms: Iterator[Atom]) -> Iterator[Atom]:
    """Neighbouring texts of the same supervision as one; empty texts left out, once they have parted others."""
    for (is_text, supervised), group in groupby(atoms, key=lambda atom: (atom.is_text, atom.supervised)):
        if not is_text:
            yield from group
        elif text := "".join(atom.text for atom in group):
            yield Atom(text=text, supervised=supervised)


def _assemble(
    sample_id: str,
    ids: list[int],
    labels: list[int],
    media_runs: list[tuple[int, int]],
    region_boxes: list[int],
    target: Tensor | None,
    max_length: int | None,
) -> Encoded:
    limit = len(ids) if max_length is None else max_length
    for start, length in media_runs:
        if length and start + length > limit:
            raise ZooError(
                f"sample {sample_id!r}: a medium at positions {start} to {start + length} does not fit into max_length "
                f"{max_length}; raise max_length or use fewer tokens per medium"
            )
    if REGION_ID in ids[limit:]:
        raise ZooError(f"sample {sample_id!r}: a box does not fit into max_length {max_length}; raise max_length")
    num_supervised_before = sum(label != IGNORED_LABEL for label in labels)
    kept_labels = torch.tensor(labels[:limit], dtype=torch.int64)
    kept_ids = torch.tensor(ids[:limit], dtype=torch.int64)
    kept_target = None if target is None else target[:max_length]
    return Encoded(
        ids=kept_ids,
        labels=kept_labels,
        media_mask=kept_ids == MEDIA_ID,
        media_runs=tuple((min(start, limit), length) for start, length in media_runs),
        num_supervised=int((kept_labels != IGNORED_LABEL).sum()) if kept_target is None else len(kept_target),
        num_supervised_before_truncation=num_supervised_before if target is None else len(target),
        truncated=len(ids) > limit or (target is not None and len(target) > len(kept_target)),
        region_boxes=tuple(region_boxes),
        target=kept_target,
    )
