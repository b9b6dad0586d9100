"""From samples to what a forward reads: preprocessing of one sample, padding or packing of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo.data.boxes import get_box_codec
from zoo.data.encode import IGNORED_LABEL, REGION_ID, encode
from zoo.data.frames import FrameSampling
from zoo.data.media import count_frames, image_size, load_frames
from zoo.data.sample import BOX_PLACEHOLDER, PLACEHOLDER_PATTERN, Box, Medium, Sample
from zoo.data.template import Template
from zoo.data.tile_transform import TileTransform
from zoo.data.tiles import TileGrid
from zoo.data.transforms import Geometry, ImageTransform
from zoo.data.visual_prompts import VisualPrompt, draw, with_visual_prompts
from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True)
class Example:
    """One encoded sample. ids, labels, media_mask: (length,); frames: (frames, 3, size, size) or None.

    ``media_starts``: where each medium begins; ``regions`` (regions,), ``boxes`` (regions, 4), ``box_media``: positions
    of the region features, their boxes as fractions of the frame and the medium of each. ``instruction``: ids of the
    users' text, where the connector reads it. ``target``: the decoder's ids, for encoder-decoders. ``tile_grids``: how
    each medium was cut into tiles, None for one that was not; empty where no medium was.
    """

    sample_id: str
    ids: Tensor
    labels: Tensor
    media_mask: Tensor
    frames: Tensor | None
    num_frames: tuple[int, ...]
    geometries: tuple[Geometry, ...]
    num_supervised: int
    is_video: tuple[bool, ...] = ()
    media_starts: tuple[int, ...] = ()
    regions: Tensor | None = None
    boxes: Tensor | None = None
    box_media: Tensor | None = None
    instruction: Tensor | None = None
    target: Tensor | None = None
    tile_grids: tuple[TileGrid | None, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """ids, labels, attention_mask, media_mask, position_ids: (rows, length). ``documents`` numbers the samples of a
    packed row from 0, -1 on padding; None when every row is one sample. ``frames`` holds the frames of all media in
    order, (frames, 3, size, size); ``num_frames`` counts them per medium, ``is_video`` has its kind, ``tile_grids`` how
    it was cut into tiles (None: it was not; empty where no medium was).

    ``media_seen`` (rows, length): 1 + the number, in the batch, of the newest medium of the same sample that began at
    or before a position; 0 before the first. ``region_mask`` (rows, length): positions of region features; ``boxes``
    (regions, 4) and ``box_media`` (regions,) as in ``ConnectorContext``, None without any. ``instruction_ids``,
    ``instruction_mask`` (media, length). ``decoder_labels`` (rows, target length): for encoder-decoders, whose encoder
    reads ``ids``. ``prefix_mask`` (rows, length): what a prefix language model reads in both directions; None: what
    stands before the first label.
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
    is_video: tuple[bool, ...]
    media_seen: Tensor
    region_mask: Tensor
    boxes: Tensor | None = None
    box_media: Tensor | None = None
    instruction_ids: Tensor | None = None
    instruction_mask: Tensor | None = None
    decoder_labels: Tensor | None = None
    tile_grids: tuple[TileGrid | None, ...] = ()
    prefix_mask: Tensor | None = None

    @property
    def num_supervised(self) -> int:
        """Labels that count: the first position of a document has no predecessor to predict it."""
        return int((shifted_labels(self) != IGNORED_LABEL).sum())

    def to(self, device: torch.device | str) -> "Batch":
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return replace(self, **moved)


def shifted_labels(batch: Batch) -> Tensor:
    """What the logits have to predict, IGNORED_LABEL where nothing.

    For a causal language model (rows, length - 1): position t predicts t + 1, unless that is another document's token.
    For an encoder-decoder (rows, target length): the decoder reads its target shifted, so position t predicts t.
    """
    if batch.decoder_labels is not None:
        return batch.decoder_labels
    labels = batch.labels[:, 1:]
    if batch.documents is not None:
        labels = labels.masked_fill(batch.documents[:, 1:] != batch.documents[:, :-1], IGNORED_LABEL)
    return labels


class Preprocessor:
    """Encodes samples for one method: media decoded and transformed, text by its template, media positions expanded.

    Args:
        transform: the encoder's image transform; None for a method without encoder.
        video_transform: that of frames of videos, where it is another.
        tile_transform: that of images that are cut into tiles; None: none are.
        frames: which frames of a video the method looks at; None takes all that are given.
        num_positions: frames of each medium, whether each is a video, and how each was cut into tiles -> places of
            each medium in the prompt.
        has_region_features: users' boxes become positions of region features, where the box codec has a form for that.
        instruction_tokenizer: tokenises the text of ``instruction_role`` for a connector that reads it: the users',
            keeping its last ``max_instruction_length`` tokens, or the assistant's, keeping its first ones.
        encoder_decoder: the language model reads the prompt in its encoder and writes the answer in its decoder.
    """

    def __init__(
        self,
        *,
        tokenizer: Any,
        transform: ImageTransform | None,
        num_positions: Callable[[Sequence[int], Sequence[bool], Sequence[TileGrid | None]], list[int]],
        box_codec: str = "numerals",
        has_region_features: bool = False,
        instruction_tokenizer: Any = None,
        instruction_role: str = "user",
        max_instruction_length: int = 128,
        encoder_decoder: bool = False,
        video_transform: ImageTransform | None = None,
        tile_transform: TileTransform | None = None,
        frames: FrameSampling | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.transform = transform
        self.video_transform = video_transform or transform
        self.tile_transform = tile_transform
        self.frames = frames
        self.num_positions = num_positions
        self.box_codec = get_box_codec(box_codec)
        self.region_prompt = self.box_codec.region_prompt if has_region_features else ""
        self.instruction_tokenizer = instruction_tokenizer
        self.instruction_role = instruction_role
        self.max_instruction_length = max_instruction_length
        self.encoder_decoder = encoder_decoder

    def geometries(self, sample: Sample) -> list[Geometry]:
        """How boxes of each medium map to the frame that the method sees, from the sizes of the media alone.

        A method without encoder sees none; its boxes are fractions of the padded square, as LLaVA-1.5 writes them.
        """
        sizes = [image_size(medium, sample_id=sample.id) for medium in sample.media]
        transforms = [
            self._transform(medium, sample) or ImageTransform(size=max(size), resize="pad")
            for medium, size in zip(sample.media, sizes)
        ]
        return [transform.geometry(size) for transform, size in zip(transforms, sizes)]

    def num_media_tokens(self, sample: Sample) -> list[int]:
        """Places of each medium in the prompt, from the headers of the files: nothing is decoded."""
        if self.transform is None:
            return [0] * len(sample.media)
        counts: list[int] = []
        grids: list[TileGrid | None] = []
        for medium in sample.media:
            transform = self._transform(medium, sample)
            is_tiled = isinstance(transform, TileTransform)
            grids.append(transform.grid(image_size(medium, sample_id=sample.id)) if is_tiled else None)
            counts.append(
                grids[-1].num_frames if is_tiled else count_frames(medium, sample_id=sample.id, frames=self.frames)
            )
        return self.num_positions(counts, [medium.kind == "video" for medium in sample.media], grids)

    def _transform(self, medium: Medium, sample: Sample) -> "ImageTransform | TileTransform | None":
        if medium.kind == "video":
            return self.video_transform
        if self.tile_transform is not None:
            is_single = sum(other.kind == "image" for other in sample.media) == 1
            if is_single or not self.tile_transform.tiles.only_single:
                return self.tile_transform
        return self.transform

    def __call__(
        self, sample: Sample, template: Template, *, max_length: int | None = None, generation: bool = False
    ) -> Example:
        """Raises ZooError, naming the sample, for unreadable media or placeholders that do not match them."""
        sample.validate()
        prompts: list[VisualPrompt] = []
        if self.box_codec.draws and self.transform is not None:
            sample, prompts = with_visual_prompts(sample, vary=not generation)
        frames: list[Tensor] = []
        num_frames: list[int] = []
        geometries: list[Geometry] = []
        tile_grids: list[TileGrid | None] = []
        is_video = tuple(medium.kind == "video" for medium in sample.media) if self.transform is not None else ()
        if self.transform is not None:
            for number, medium in enumerate(sample.media):
                images = load_frames(medium, sample_id=sample.id, frames=self.frames)
                drawn = [prompt for prompt in prompts if prompt.box.medium == number]
                images = [draw(image, drawn) for image in images]
                transform = self._transform(medium, sample)
                if isinstance(transform, TileTransform):
                    pixels, geometry, grid = transform.apply(images[0])
                else:
                    pixels, (geometry, *_) = zip(*(transform.apply(image) for image in images))
                    grid = None
                frames += pixels
                num_frames.append(len(pixels))
                geometries.append(geometry)
                tile_grids.append(grid)
            num_tokens = self.num_positions(num_frames, is_video, tile_grids)
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
            region_prompt=self.region_prompt,
            encoder_decoder=self.encoder_decoder,
        )
        boxes = [sample.boxes[index] for index in encoded.region_boxes]
        return Example(
            sample_id=sample.id,
            ids=encoded.ids,
            labels=encoded.labels,
            media_mask=encoded.media_mask,
            frames=torch.stack(frames) if frames else None,
            num_frames=tuple(num_frames),
            geometries=tuple(geometries),
            num_supervised=encoded.num_supervised,
            is_video=is_video,
            media_starts=tuple(start for start, _ in encoded.media_runs) if frames else (),
            regions=(encoded.ids == REGION_ID).nonzero()[:, 0] if boxes else None,
            boxes=torch.tensor([_fractions(box, geometries[box.medium]) for box in boxes]) if boxes else None,
            box_media=torch.tensor([box.medium for box in boxes]) if boxes else None,
            instruction=self._instruction(sample, box_text) if self.instruction_tokenizer and frames else None,
            target=encoded.target,
            tile_grids=tuple(tile_grids) if any(tile_grids) else (),
        )

    def _instruction(self, sample: Sample, box_text: Callable[[Box], str]) -> Tensor:
        """What a role of a conversation says, as one text: a connector reads the image once for all turns."""
        box = 0
        said = []
        for message in sample.messages:
            text = message.content
            for _ in range(text.count(BOX_PLACEHOLDER)):
                text = text.replace(BOX_PLACEHOLDER, box_text(sample.boxes[box]), 1)
                box += 1
            if message.role == self.instruction_role:
                said.append(PLACEHOLDER_PATTERN.sub(" ", text).strip())
        tokenizer = self.instruction_tokenizer
        ids = tokenizer(" ".join(said), verbose=False)["input_ids"]
        excess = len(ids) - self.max_instruction_length
        if self.instruction_role == "assistant":
            # A text to be learned begins with a mark, whose place is taken where it is to be written.
            marks = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
            mark = next(token for token in marks if token is not None)
            ids = (ids if ids[:1] == [mark] else [mark, *ids])[: self.max_instruction_length]
        elif excess > 0:
            # The question stands at the end; the tokenizer's first mark (BERT's [CLS]) stays.
            ids = ids[:1] + ids[1 + excess :]
        return torch.tensor(ids or [tokenizer.pad_token_id], dtype=torch.int64)


def _fractions(box: Box, geometry: Geometry) -> list[float]:
    frame = geometry.to_frame(box)
    return [value / geometry.size for value in (frame.x0, frame.y0, frame.x1, frame.y1)]


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
    flat = [example for row in rows for example in row]
    if packed and any(example.target is not None for example in flat):
        raise ZooError("an encoder-decoder language model cannot be trained on packed rows; set training.packing=false")
    length = max(sum(len(example) for example in row) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id)
    labels = torch.full(shape, IGNORED_LABEL)
    positions = torch.zeros(shape, dtype=torch.long)
    documents = torch.full(shape, -1)
    media_mask = torch.zeros(shape, dtype=torch.bool)
    region_mask = torch.zeros(shape, dtype=torch.bool)
    media_seen = torch.zeros(shape, dtype=torch.long)
    box_media: list[Tensor] = []
    num_media = 0
    for r, row in enumerate(rows):
        start = length - sum(len(example) for example in row) if side == "left" else 0
        for document, example in enumerate(row):
            span = slice(start, start + len(example))
            # Media positions carry a marker that is no row of the embedding; the fusion overwrites them.
            ids[r, span] = example.ids.masked_fill(example.ids < 0, pad_id)
            labels[r, span] = example.labels
            media_mask[r, span] = example.media_mask
            positions[r, span] = torch.arange(len(example))
            documents[r, span] = document
            for number, place in enumerate(example.media_starts, start=num_media + 1):
                media_seen[r, start + place : span.stop] = number
            if example.regions is not None:
                region_mask[r, start + example.regions] = True
                box_media.append(example.box_media + num_media)
            num_media += len(example.num_frames)
            start = span.stop
    frames = [example.frames for example in flat if example.frames is not None]
    boxes = [example.boxes for example in flat if example.boxes is not None]
    instructions = [
        example.instruction for example in flat if example.instruction is not None for _ in example.num_frames
    ]
    tile_grids = [grid for example in flat for grid in example.tile_grids or (None,) * len(example.num_frames)]
    decoder_labels = None
    if any(example.target is not None for example in flat):
        silent = torch.zeros(0, dtype=torch.long)
        wanted = [silent if example.target is None else example.target for example in flat]
        decoder_labels = pad_sequence(wanted, batch_first=True, padding_value=IGNORED_LABEL)
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
        is_video=tuple(kind for example in flat for kind in example.is_video),
        media_seen=media_seen,
        region_mask=region_mask,
        boxes=torch.cat(boxes) if boxes else None,
        box_media=torch.cat(box_media) if box_media else None,
        instruction_ids=pad_sequence(instructions, batch_first=True) if instructions else None,
        instruction_mask=(
            pad_sequence([torch.ones_like(ids, dtype=torch.bool) for ids in instructions], batch_first=True)
            if instructions
            else None
        ),
        decoder_labels=decoder_labels,
        tile_grids=tuple(tile_grids) if any(tile_grids) else (),
    )
