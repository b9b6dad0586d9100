"""The vision encoder: a transformers vision tower, with the layers that a method looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from zoo.data.tile_transform import TileTransform
from zoo.data.transforms import ImageTransform
from zoo.encoders.config import EncoderConfig
from zoo.encoders.families import family_of, image_transform, side
from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What an encoder gives for a number of media.

    ``tokens`` (media, num_tokens, dim): the selected layers, patches row by row, the class token first where kept.
    ``grid``: (rows, columns) of the patches. ``class_token`` (media, dim): of the selected layers, whether or not it is
    kept among the tokens, None where the family has none. ``pooled`` (media, width): transformers' ``pooler_output``.
    ``levels``: the patches of further hidden states that were asked for, each (media, rows * columns, width).
    """

    tokens: torch.Tensor
    grid: tuple[int, int]
    class_token: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    levels: tuple[torch.Tensor, ...] = ()


class VisionEncoder(nn.Module):
    """``model`` is transformers' own class, its parameters named as transformers names them.

    ``video`` is the tower of the frames of videos, where a method has one of its own. Whether gradients flow is the
    caller's decision (``requires_grad_``, ``torch.no_grad``).

    Raises:
        ZooError: when the layers, the class token or the image size do not exist in this model, or the two towers do
            not give the same features.
    """

    def __init__(self, model: PreTrainedModel, config: EncoderConfig, video: "VisionEncoder | None" = None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.family = family_of(model.config.model_type, where="encoder")
        if self.family.final_norm_is_foreign and not config.post_norm:
            # EVA-CLIP ends without a norm; the Q-Former's, which transformers keeps there, is a part of the connector.
            setattr(model, self.family.final_norm, nn.Identity())
        self.layers = tuple(config.layers) or (config.layer,)
        self.transform: ImageTransform = image_transform(config, model.config)
        num_blocks = model.config.num_hidden_layers
        for layer in self.layers:
            if not -num_blocks - 1 <= layer <= num_blocks:
                raise ZooError(
                    f"encoder.layer {layer} does not exist in {num_blocks} blocks; give 0 (before the first) to "
                    f"{num_blocks}, or -1 (the last) to {-num_blocks - 1}"
                )
        if config.class_token and not self.family.has_class_token:
            raise ZooError(f"encoder.class_token: {model.config.model_type} has no class token; set it to false")
        if self.image_size < self.patch_size:
            raise ZooError(f"encoder.image_size {self.image_size} is below the patch size {self.patch_size}; raise it")
        self.video = video
        if video is not None:
            ours, theirs = ((tower.image_size, tower.num_tokens, tower.dim) for tower in (self, video))
            if ours != theirs:
                raise ZooError(
                    f"encoder and encoder.video differ in (image size, tokens, width): {ours} and {theirs}; make them "
                    "equal"
                )

    @property
    def video_transform(self) -> ImageTransform:
        """The preprocessing of the frames of videos."""
        if self.video is not None:
            return self.video.transform
        return replace(self.transform, resize=self.config.video_resize or self.transform.resize)

    @property
    def tile_transform(self) -> TileTransform | None:
        """The preprocessing of images that are cut into tiles; None where none are."""
        return TileTransform(square=self.transform, tiles=self.config.tiles) if self.config.tiles else None

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        return self.transform.size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        config = self.model.config
        return getattr(config, "cell_size", None) or side(config.patch_size, where="encoder patch_size")

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches; pixels beyond the last whole patch are not seen."""
        patches = self.image_size // self.patch_size
        return patches, patches

    @property
    def num_tokens(self) -> int:
        """Tokens of one image or frame."""
        rows, columns = self.grid
        return rows * columns + int(self.config.class_token)

    @property
    def dim(self) -> int:
        """Features of one token: the tower's width times the number of selected layers."""
        return self.model.config.hidden_size * len(self.layers)

    def forward(
        self,
        pixels: torch.Tensor,
        levels: Sequence[int] = (),
        *,
        num_frames: Sequence[int] = (),
        is_video: Sequence[bool] = (),
    ) -> Features:
        """Encode images or frames.

        Args:
            pixels: (frames, 3, image_size, image_size), preprocessed by ``transform``; any floating type.
            levels: indices of hidden states to return beside the chosen layers.
            num_frames: frames of each medium, for towers in which they see one another; one each where it is left out.
            is_video: kind of each medium, for methods with a tower for videos; all images where it is left out.

        Raises:
            ZooError: for another shape, a level that this tower does not have, or more frames than it can order.
        """
        counts = list(num_frames) or [1] * len(pixels)
        kinds = list(is_video) or [False] * len(counts)
        # Calls of a tower with temporal attention hold videos of one length.
        groups: dict[tuple[bool, int], list[torch.Tensor]] = {}
        for frames, kind in zip(torch.arange(len(pixels), device=pixels.device).split(counts), kinds):
            has_own_tower = self.video is not None and kind
            tower = self.video if has_own_tower else self
            key = (has_own_tower, len(frames) if tower.family.is_temporal else 1)
            groups.setdefault(key, []).append(frames)
        encoded = []
        for (has_own_tower, count), frames in groups.items():
            tower = self.video if has_own_tower else self
            encoded.append(tower._encode(pixels if len(groups) == 1 else pixels[torch.cat(frames)], levels, count))
        if len(encoded) < 2:
            return encoded[0] if encoded else self._encode(pixels, levels, 1)
        return _merged(encoded, torch.cat([index for frames in groups.values() for index in frames]).argsort())

    def _encode(self, pixels: torch.Tensor, levels: Sequence[int], num_frames: int) -> Features:
        """One call of this tower, on media of ``num_frames`` frames each."""
        num_blocks = self.model.config.num_hidden_layers
        for level in levels:
            if not -num_blocks - 1 <= level <= num_blocks:
                raise ZooError(f"encoder: level {level} does not exist in {num_blocks} blocks; set connector.levels")
        expected = (3, self.image_size, self.image_size)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise ZooError(f"encoder: pixels have shape {tuple(pixels.shape)}, expected (media, *{expected})")
        if not len(pixels):
            # transformers' attention cannot reshape an empty batch, which text-only batches give.
            rows, columns = self.grid
            shape = (0, int(self.family.has_class_token) + rows * columns, self.dim)
            empty = pixels.new_zeros(shape, dtype=self.model.dtype)
            maps = tuple(empty.new_zeros(0, rows * columns, self.model.config.hidden_size) for _ in levels)
            return self._features(empty, pooled=None, levels=maps)
        native = side(self.model.config.image_size, where="encoder image_size")
        options: dict[str, object] = {}
        if self.family.position_argument and native != expected[1]:
            options["interpolate_pos_encoding"] = True
        if self.family.is_temporal:
            self.model.check_num_frames(num_frames)
            options["num_frames"] = num_frames
        output = self.model(pixel_values=pixels, output_hidden_states=True, **options)
        states = [output.hidden_states[layer] for layer in self.layers]
        if self.config.post_norm:
            norm = getattr(self.model, self.family.final_norm)
            states = [norm(state) for state in states]
        tokens = states[0] if len(states) == 1 else torch.cat(states, dim=-1)
        first = int(self.family.has_class_token)
        maps = tuple(output.hidden_states[level][:, first:] for level in levels)
        return self._features(tokens, pooled=output.pooler_output, levels=maps)

    def _features(
        self, tokens: torch.Tensor, *, pooled: torch.Tensor | None, levels: tuple[torch.Tensor, ...]
    ) -> Features:
        """tokens (media, class token + patches, dim), the class token being there where the family has one."""
        class_token = None
        if self.family.has_class_token:
            class_token = tokens[:, 0]
            tokens = tokens if self.config.class_token else tokens[:, 1:]
        return Features(tokens=tokens, grid=self.grid, class_token=class_token, pooled=pooled, levels=levels)


def _merged(parts: Sequence[Features], order: torch.Tensor) -> Features:
    """Features of several calls, their frames brought into the order of the batch."""

    def merged(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        return None if any(tensor is None for tensor in tensors) else torch.cat(tensors)[order]

    return Features(
        tokens=merged([part.tokens for part in parts]),
        grid=parts[0].grid,
        class_token=merged([part.class_token for part in parts]),
        pooled=merged([part.pooled for part in parts]),
        levels=tuple(merged(level) for level in zip(*(part.levels for part in parts))),
    )
