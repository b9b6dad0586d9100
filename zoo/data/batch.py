"""From samples to what a forward reads: preprocessing of one sample, padding or packing of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from zoo.data.boxes import get_box_codec
from zoo.data.encode import IGNORED_LABEL, encode
from zoo.data.media import image_size, load_frames
from zoo.data.sample import Box, Sample
from zoo.data.templates import Template
from zoo.data.transforms import Geometry, ImageTransform
from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True)
class Example:
    """One encoded sample. ids, labels, media_mask: (length,); frames: (frames, 3, size, size) or None."""

    sample_id: str
    ids: Tensor
    labels: Tensor
    media_mask: Tensor
    frames: Tensor | None
    num_frames: tuple[int, ...]
    geometries: tuple[Geometry, ...]
    num_supervised: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """ids, labels, attention_mask, media_mask, position_ids: (rows, length). ``documents`` numbers the samples of a
    packed row from 0, -1 on padding; None when every row is one sample. ``frames`` holds the frames of all media in
    order, (frames, 3, size, size); ``num_frames`` counts them per medium.
    """

    ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    media_mask: Tensor
    position_ids: Tensor
    documents: Tensor | None
    frames: Tensor | None
    num_frames: tuple[int, ...]
    sample_ids: tuple[str, ...]

    @property
    def num_supervised(self) -> int:
        """Labels that count: the first position of a document has no predecessor to predict it."""
        return int((shifted_labels(self) != IGNORED_LABEL).sum())

    def to(self, device: torch.device | str) -> "Batch":
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return replace(self, **moved)


def shifted_labels(batch: Batch) -> Tensor:
    """(rows, length - 1): what position t has to predict, IGNORED_LABEL where that is another document's token."""
    labels = batch.labels[:, 1:]
    if batch.documents is not None:
        labels = labels.masked_fill(batch.documents[:, 1:] != batch.documents[:, :-1], IGNORED_LABEL)
    return labels


class Preprocessor:
    """Encodes samples for one method: media decoded and transformed, text by its template, media positions expanded.

    Args:
        transform: the encoder's image transform; None for a method without encoder.
        num_media_tokens: frames of each medium -> soft tokens of each medium.
    """

    def __init__(
        self,
        *,
        tokenizer: object,
        transform: ImageTransform | None,
        num_media_tokens: Callable[[Sequence[int]], list[int]],
        box_codec: str = "numerals",
    ) -> None:
        self.tokenizer = tokenizer
        self.transform = transform
        self.num_media_tokens = num_media_tokens
        self.box_codec = get_box_codec(box_codec)

    def geometries(self, sample: Sample) -> list[Geometry]:
        """How boxes of each medium map to the frame that the method sees, from the sizes of the media alone.

        A method without encoder sees none; its boxes are fractions of the padded square, as LLaVA-1.5 writes them.
        """
        sizes = [image_size(medium, sample_id=sample.id) for medium in sample.media]
        transforms = [self.transform or ImageTransform(size=max(size), resize="pad") for size in sizes]
        return [transform.geometry(size) for transform, size in zip(transforms, sizes)]

    def __call__(
        self, sample: Sample, template: Template, *, max_length: int | None = None, generation: bool = False
    ) -> Example:
        """Raises ZooError, naming the sample, for unreadable media or placeholders that do not match them."""
        sample.validate()
        frames: list[Tensor] = []
        num_frames: list[int] = []
        geometries: list[Geometry] = []
        if self.transform is not None:
            for medium in sample.media:
                images = load_frames(medium, sample_id=sample.id)
                pixels, geometry = zip(*(self.transform.apply(image) for image in images))
                frames += pixels
                num_frames.append(len(images))
                geometries.append(geometry[0])
            num_tokens = self.num_media_tokens(num_frames)
        else:
            num_tokens = [0] * len(sample.media)
            if sample.boxes:
                geometries = self.geometries(sample)

        def box_text(box: Box) -> str:
            return self.box_codec.encode(box, geometries[box.medium])

        encoded = encode(
            sample,
            template,
            self.tokenizer,
            num_media_tokens=num_tokens,
            max_length=max_length,
            generation=generation,
            box_text=box_text,
        )
        return Example(
            sample_id=sample.id,
            ids=torch.as_tensor(encoded.ids, dtype=torch.long),
            labels=torch.as_tensor(encoded.labels, dtype=torch.long),
            media_mask=torch.as_tensor(encoded.media_mask, dtype=torch.bool),
            frames=torch.stack(frames) if frames else None,
            num_frames=tuple(num_frames),
            geometries=tuple(geometries),
            num_supervised=encoded.num_supervised,
        )


def pad(examples: Sequence[Example], *, pad_id: int = 0, side: str = "right") -> Batch:
    """One sample a row. ``side`` is right for training, left for generation (new tokens follow the last real one)."""
    return _assemble([[example] for example in examples], pad_id=pad_id, side=side, packed=False)


def pack(examples: Sequence[Example], *, length: int) -> list[list[Example]]:
    """First-fit decreasing into rows of at most ``length`` tokens; a longer sample gets a row of its own."""
    rows: list[list[Example]] = []
    free: list[int] = []
    for example in sorted(examples, key=len, reverse=True):
        for i, space in enumerate(free):
            if len(example) <= space:
                rows[i].append(example)
                free[i] -= len(example)
                break
        else:
            rows.append([example])
            free.append(length - len(example))
    return rows


def pack_rows(rows: Sequence[Sequence[Example]], *, pad_id: int = 0) -> Batch:
    """Rows of several samples each, separated by document numbers and restarting positions."""
    return _assemble(rows, pad_id=pad_id, side="right", packed=True)


def _assemble(rows: Sequence[Sequence[Example]], *, pad_id: int, side: str, packed: bool) -> Batch:
    if side not in ("left", "right"):
        raise ZooError(f"unknown padding side {side!r}; use left or right")
    length = max(sum(len(example) for example in row) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id)
    labels = torch.full(shape, IGNORED_LABEL)
    positions = torch.zeros(shape, dtype=torch.long)
    documents = torch.full(shape, -1)
    media_mask = torch.zeros(shape, dtype=torch.bool)
    for r, row in enumerate(rows):
        start = length - sum(len(example) for example in row) if side == "left" else 0
        for document, example in enumerate(row):
            span = slice(start, start + len(example))
            # Media positions carry a marker that is no row of the embedding; the fusion overwrites them.
            ids[r, span] = example.ids.masked_fill(example.media_mask, pad_id)
            labels[r, span] = example.labels
            media_mask[r, span] = example.media_mask
            positions[r, span] = torch.arange(len(example))
            documents[r, span] = document
            start = span.stop
    flat = [example for row in rows for example in row]
    frames = [example.frames for example in flat if example.frames is not None]
    return Batch(
        ids=ids,
        labels=labels,
        attention_mask=documents >= 0,
        media_mask=media_mask,
        position_ids=positions,
        documents=documents if packed else None,
        frames=torch.cat(frames) if frames else None,
        num_frames=tuple(n for example in flat for n in example.num_frames),
        sample_ids=tuple(example.sample_id for example in flat),
    )
