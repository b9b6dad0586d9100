"""Interleaved documents of images and text: MMC4's JSON lines and records like OBELICS's.

A document becomes a conversation in which every image is a user's turn and the text that follows it the assistant's:
the template of a Flamingo writes ``<image>sentence<|endofchunk|><image>sentence<|endofchunk|>`` and supervises what
follows an image. Text before the first image belongs to the first user's turn, unsupervised.

Rules as in OpenFlamingo (``open_flamingo/train/data.py``, ``preprocess_interleaved``), but for these: images stand in
the order of their sentences, where there the order of the list decided which pixels an ``<image>`` meant; the
assignment is the file's own, where there it was computed again without the images that are missing; and documents of
one image are all kept, where there every second was.
"""

import base64
import binascii
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.data.sample import PLACEHOLDER_PATTERN, Medium, Message, Sample
from zoo.data.sources.jsonindex import JsonRecords
from zoo.data.sources.records import Origin, RecordError, assemble, described
from zoo.errors import ZooError

_FIELDS = {"id", "text_list", "image_info", "similarity_matrix", "texts", "images", "metadata", "general_metadata"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRules:
    """``max_images``: the first so many usable images of a document are kept. ``min_similarity``: an MMC4 image less
    similar to its sentence (cosine of CLIP features, ``matched_sim``) is not used; OBELICS has no such number.
    """

    max_images: int = 6
    min_similarity: float = 0.24

    def __post_init__(self) -> None:
        if self.max_images < 1:
            raise ZooError(f"documents: max_images is {self.max_images}; give 1 or more")


class NoUsableImage(RecordError):
    """A well-formed document of which no image passes the rules: left out and counted. ``lost``: images, by reason."""

    def __init__(self, message: str, sample_id: str = "", lost: Mapping[str, int] | None = None) -> None:
        super().__init__(message, sample_id=sample_id)
        self.lost = Counter(lost)


def is_document(record: Any) -> bool:
    """Whether a record is an interleaved document, by its keys."""
    if not isinstance(record, Mapping) or {"conversations", "messages"} & record.keys():
        return False
    return "text_list" in record or {"texts", "images"} <= record.keys()


def from_document(record: Any, origin: Origin, rules: DocumentRules) -> Sample:
    """One sample of a document.

    MMC4: ``{text_list: [sentence], image_info: [{image_name | image_base64, matched_text_index, matched_sim}]}``; an
    image stands before its sentence, of several for one sentence the most similar; later sentences without an image go
    on in the same turn. OBELICS: parallel lists ``texts`` and ``images`` (paths), None where the other has the entry.
    Images that are not on disk (or in the shard) are not used. ``<image>`` and the like in the text are removed: they
    would stand for media. ``info["images_left_out"]`` counts the images that were not used, by reason.

    Raises:
        NoUsableImage: no image is left.
        RecordError: a missing or mistyped field.
    """
    if not isinstance(record, Mapping):
        raise origin.error(f"the record is {described(record)}; use an object with 'text_list' or 'texts'")
    sample_id = origin.sample_id(record)
    lost: Counter[str] = Counter()
    if "text_list" in record:
        texts, images = _mmc4(record, origin, sample_id, rules, lost)
        joint = " "
    elif {"texts", "images"} <= record.keys():
        texts, images = _obelics(record, origin, sample_id, rules, lost)
        joint = "\n\n"
    else:
        raise origin.error(
            "the record has neither 'text_list' (MMC4) nor 'texts' and 'images' (OBELICS)", sample_id=sample_id
        )
    if not images:
        raise NoUsableImage(f"{origin.where} (id {sample_id!r}): no usable image ({_counted(lost)})", sample_id, lost)
    messages, ordered = _turns(texts, images, joint)
    info = {key: value for key, value in record.items() if key not in _FIELDS}
    info["images_left_out"] = dict(lost)
    return assemble(messages, ordered, [], [], origin=origin, sample_id=sample_id, info=info)


def _turns(
    texts: Sequence[str], images: Mapping[int, Sequence[Medium]], joint: str
) -> tuple[list[Message], list[Medium]]:
    """Turns of non-empty texts; ``images[i]`` stand before ``texts[i]``."""
    starts = sorted(images)
    opening = joint.join(texts[: starts[0]])
    messages, ordered = [], []
    for start, stop in zip(starts, [*starts[1:], len(texts)]):
        marks = "<image>" * len(images[start])
        messages.append(Message(role="user", content=marks if messages else opening + marks))
        messages.append(Message(role="assistant", content=joint.join(texts[start:stop])))
        ordered += images[start]
    return messages, ordered


def _mmc4(
    record: Mapping[str, Any], origin: Origin, sample_id: str, rules: DocumentRules, lost: Counter[str]
) -> tuple[list[str], dict[int, list[Medium]]]:
    sentences, infos = (_list(record, key, origin, sample_id) for key in ("text_list", "image_info"))
    texts = [_text(sentence, "text_list", origin, sample_id) for sentence in sentences]
    # sentence -> (similarity, number of the image, medium)
    best: dict[int, tuple[float, int, Medium]] = {}
    for number, info in enumerate(infos):
        if not isinstance(info, Mapping):
            raise origin.error(f"image {number} is {described(info)}; use an object", sample_id=sample_id)
        index, similarity = info.get("matched_text_index"), info.get("matched_sim")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(texts):
            raise origin.error(
                f"'matched_text_index' of image {number} is {described(index)}; use one of the {len(texts)} sentences",
                sample_id=sample_id,
            )
        if isinstance(similarity, bool) or not isinstance(similarity, int | float):
            raise origin.error(
                f"'matched_sim' of image {number} is {described(similarity)}; use a number", sample_id=sample_id
            )
        if similarity < rules.min_similarity:
            lost[f"below similarity {rules.min_similarity:g}"] += 1
            continue
        if not texts[index]:
            lost["without text"] += 1
            continue
        medium = _medium(info.get("image_name"), info.get("image_base64"), number, len(infos), origin, sample_id)
        if medium is None:
            lost["not there"] += 1
            continue
        if index in best:
            lost["second to a more similar one"] += 1
        if index not in best or similarity > best[index][0]:
            best[index] = (similarity, number, medium)
    # The first images are kept by their place in the list, as in OpenFlamingo.
    kept = sorted(best, key=lambda index: best[index][1])[: rules.max_images]
    if len(best) > len(kept):
        lost[f"beyond {rules.max_images} of a document"] += len(best) - len(kept)
    # Empty sentences would leave double blanks; the places of the others shift.
    places = [place for place, text in enumerate(texts) if text]
    return [texts[place] for place in places], {places.index(index): [best[index][2]] for index in kept}


def _obelics(
    record: Mapping[str, Any], origin: Origin, sample_id: str, rules: DocumentRules, lost: Counter[str]
) -> tuple[list[str], dict[int, list[Medium]]]:
    entries, references = (_list(record, key, origin, sample_id) for key in ("texts", "images"))
    if len(entries) != len(references):
        raise origin.error(
            f"'texts' has {len(entries)} entries and 'images' {len(references)}; they must be parallel",
            sample_id=sample_id,
        )
    total = sum(reference is not None for reference in references)
    texts: list[str] = []
    images: dict[int, list[Medium]] = {}
    number = num_kept = 0
    for place, (entry, reference) in enumerate(zip(entries, references)):
        if entry is not None and reference is not None:
            raise origin.error(f"place {place} has both a text and an image; one is to be null", sample_id=sample_id)
        if entry is not None:
            text = _text(entry, "texts", origin, sample_id)
            texts += [text] if text else []
        elif reference is not None:
            medium = _medium(reference, None, number, total, origin, sample_id)
            number += 1
            if medium is None:
                lost["not there"] += 1
            elif num_kept == rules.max_images:
                lost[f"beyond {rules.max_images} of a document"] += 1
            else:
                images.setdefault(len(texts), []).append(medium)
                num_kept += 1
    if trailing := images.pop(len(texts), None):
        lost["without text"] += len(trailing)
    return texts, images


def _list(record: Mapping[str, Any], key: str, origin: Origin, sample_id: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise origin.error(f"{key!r} is {described(value)}; use a list", sample_id=sample_id)
    return value


def _text(value: Any, key: str, origin: Origin, sample_id: str) -> str:
    if not isinstance(value, str):
        raise origin.error(f"{key!r} holds {described(value)}; use text", sample_id=sample_id)
    return PLACEHOLDER_PATTERN.sub("", value).strip()


def _medium(
    reference: Any, encoded: Any, number: int, num_images: int, origin: Origin, sample_id: str
) -> Medium | None:
    """The image from base64, from the shard (by name, else by its number), or from disk; None where it is not there."""
    if encoded is not None:
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise origin.error(f"'image_base64' of image {number}: {error}", sample_id=sample_id) from error
        return Medium(kind="image", source=data, name=f"{sample_id}/{number}")
    if origin.carried:
        named = {os.path.basename(medium.name): medium for medium in origin.carried}
        by_number = origin.carried[number] if len(origin.carried) == num_images else None
        return named.get(os.path.basename(reference) if isinstance(reference, str) else "", by_number)
    if not reference:
        return None
    (medium,) = origin.media("image", reference, "image_name", sample_id)
    return medium if os.path.exists(medium.source) else None


class LeftOut:
    """What a source did not use, for its report: ``documents`` (id, reason), and a count of ``images`` by reason."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, str]] = []
        self.images: Counter[str] = Counter()

    def add(self, result: Sample | NoUsableImage) -> None:
        """Count what one document lost."""
        if isinstance(result, NoUsableImage):
            self.documents.append((result.sample_id, str(result)))
            self.images += result.lost
        else:
            self.images += Counter(result.info.get("images_left_out", {}))

    def warn(self, name: str, num_documents: int) -> None:
        """Say in one warning what was left out, if anything was."""
        if self.images or self.documents:
            warnings.warn(
                f"{name}: {len(self.documents):,} of {num_documents:,} documents left out, without a usable image; "
                f"images not used: {_counted(self.images)}",
                stacklevel=2,
            )


def _counted(lost: Counter[str]) -> str:
    return ", ".join(f"{num:,} {reason}" for reason, num in lost.most_common()) or "it has none"


class DocumentSource:
    """Samples of a JSON-lines file (or array) of documents by index, those without a usable image left out.

    Opening it reads every record once, to know which are usable; ``left_out`` and a warning say how many are not. A
    malformed record keeps its place and raises when it is read.

    Raises:
        ZooError: the file cannot be read, or none of its documents has a usable image.
    """

    def __init__(self, path: str, *, media_root: str | None = None, rules: DocumentRules | None = None) -> None:
        self.path = path
        self.media_root = os.path.dirname(path) if media_root is None else media_root
        self.rules = rules or DocumentRules()
        self.left_out = LeftOut()
        self._records = JsonRecords(path)
        self._kept: list[int] = []
        for number in range(len(self._records)):
            try:
                self.left_out.add(self._sample(number))
            except NoUsableImage as error:
                self.left_out.add(error)
                continue
            except RecordError:
                # Raised again for whoever reads this sample, so that a check of the file can list it.
                self._kept.append(number)
                continue
            self._kept.append(number)
        if len(self._records) and not self._kept:
            raise ZooError(
                f"{path}: none of {len(self._records)} documents has a usable image "
                f"({_counted(self.left_out.images)}); is {self.media_root!r} the folder of the images?"
            )
        self.left_out.warn(path, len(self._records))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Sample:
        return self._sample(self._kept[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def _sample(self, number: int) -> Sample:
        origin = Origin(
            where=f"{self.path}: sample {number}",
            default_id=f"{os.path.basename(self.path)}:{number}",
            media_root=self.media_root,
        )
        return from_document(self._records[number], origin, self.rules)
