"""DaViT, Florence-2's tower: transformers' network, called like the other towers."""

import math

import torch
from transformers import Florence2VisionConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone


class DaViTConfig(Florence2VisionConfig):
    """transformers' fields, and the size of the images. Maps shrink and widen from stage to stage, so that the last one
    is the only hidden state, and there is no block to count.
    """

    image_size: int = 768
    num_hidden_layers: int = 0

    @property
    def hidden_size(self) -> int:
        """Width of the last map."""
        return self.embed_dim[-1]

    @property
    def cell_size(self) -> int:
        """Pixels along a side of a cell of the last map."""
        return math.prod(self.patch_stride)


class DaViTModel(Florence2VisionBackbone):
    """Parameters are named as the parent's. The image size is a multiple of the product of the strides."""

    config_class = DaViTConfig

    def forward(self, pixel_values: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """pixel_values (images, 3, side, side) -> last_hidden_state (images, cells, width), row by row."""
        maps = super().forward(pixel_values).last_hidden_state
        cells = maps.flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=cells.mean(1), hidden_states=(cells,))
