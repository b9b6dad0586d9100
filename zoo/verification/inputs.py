"""From a reference's ids, masks and pixels to the batch that our model takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.data.batch import Batch
from zoo.data.encode import IGNORED_LABEL
from zoo.data.tiles import TileGrid
from zoo.errors import ZooError
from zoo.model import VLM


@dataclass(frozen=True, kw_only=True)
class MediaInput:
    """Images, or videos, in the order of their places in the rows.

    ``frames``: of each medium, (frames or tiles, 3, size, size). ``mask`` (rows, length): the places of all of them.
    """

    frames: Sequence[Tensor]
    mask: Tensor
    is_video: bool = False
    tile_grids: Sequence[TileGrid | None] = ()


def blank_batch(shape: tuple[int, int], **fields: Any) -> Batch:
    """Rows of text without labels, media or padding, but for ``fields``."""
    ids = torch.zeros(shape, dtype=torch.long)
    nothing = torch.zeros(shape, dtype=torch.bool)
    values: dict[str, Any] = {
        "ids": ids,
        "labels": torch.full_like(ids, IGNORED_LABEL),
        "attention_mask": ~nothing,
        "media_mask": nothing,
        "position_ids": torch.arange(shape[1]).expand(shape),
        "documents": None,
        "frames": None,
        "num_frames": (),
        "sample_ids": tuple(f"row {row}" for row in range(shape[0])),
        "is_video": (),
        "media_seen": ids,
        "region_mask": nothing,
    }
    return Batch(**values | fields)


def make_batch(
    model: VLM,
    *,
    ids: Tensor,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
    media: Sequence[MediaInput] = (),
    **fields: Any,
) -> Batch:
    """One sample a row. For an encoder-decoder, ``labels`` are the decoder's.

    Media come in the order of their places, whatever their kinds. ``fields`` are further ones of ``Batch``; those of
    media go by that order.

    Raises:
        ZooError: other places in the rows than the media have soft tokens.
    """
    real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    is_encoder_decoder = model.language_model.is_encoder_decoder
    media_mask = torch.zeros_like(real)
    placed: list[tuple[int, Tensor, bool, TileGrid | None]] = []
    for group in media:
        media_mask |= group.mask
        starts = _starts(model, group)
        grids = group.tile_grids or (None,) * len(starts)
        placed += zip(starts, group.frames, (group.is_video,) * len(starts), grids, strict=True)
    placed.sort(key=lambda medium: medium[0])
    frames, kinds, grids = ([medium[i] for medium in placed] for i in (1, 2, 3))
    begins = torch.zeros_like(ids).flatten()
    begins[[start for start, *_ in placed]] = torch.arange(1, len(placed) + 1)
    values: dict[str, Any] = {
        # A placeholder need not be a row of the embedding.
        "ids": ids.masked_fill(media_mask | (ids < 0), 0),
        "attention_mask": real,
        "media_mask": media_mask,
        "position_ids": (real.long().cumsum(1) - 1).clamp(min=0),
        "frames": torch.cat(frames) if frames else None,
        "num_frames": tuple(len(pixels) for pixels in frames),
        "is_video": tuple(kinds),
        "tile_grids": tuple(grids) if any(grids) else (),
        "media_seen": begins.view_as(ids).cummax(1).values,
    }
    if labels is not None:
        values["decoder_labels" if is_encoder_decoder else "labels"] = labels
    return blank_batch(tuple(ids.shape), **values | fields)


def _starts(model: VLM, group: MediaInput) -> list[int]:
    """The first place of each medium, in the flattened rows."""
    counts = model.fusion.num_positions(
        model.num_media_tokens(
            [len(frames) for frames in group.frames], [group.is_video] * len(group.frames), group.tile_grids
        )
    )
    places = group.mask.flatten().nonzero()[:, 0].tolist()
    if sum(counts) != len(places):
        raise ZooError(
            f"the rows have {len(places)} places for {len(counts)} {'videos' if group.is_video else 'images'} of "
            f"{counts} soft tokens; the placeholders must be expanded"
        )
    begin = 0
    starts = []
    for count in counts:
        starts.append(places[begin])
        begin += count
    return starts
