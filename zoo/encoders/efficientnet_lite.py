"""EfficientNet-Lite (without squeeze-and-excite, ReLU6 throughout), which transformers' EfficientNet cannot be set to.

Source: Tan and Le (2019), arXiv 1905.11946; the Lite variants are TensorFlow's release of 2020
(tensorflow/tpu, models/official/efficientnet/lite).
"""

import torch
import torch.nn.functional as functional
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01
# (blocks, kernel, stride, expansion, channels) of each group of the size 0.
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLiteConfig(PreTrainedConfig):
    """Size 0. The last map is the only one of its width, so that there is one hidden state and no block to count."""

    model_type = "efficientnet_lite"
    image_size: int = 224
    patch_size: int = 32
    hidden_size: int = 1280
    num_hidden_layers: int = 0
    stem_channels: int = 32


class SameConvolution(nn.Module):
    """Convolution padded as TensorFlow's "same" (an odd pixel goes right and below), BatchNorm, and ReLU6 if asked."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, activated: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(dim_in, dim_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(dim_out, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.activated = activated

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in maps.shape[-2:])
        padded = functional.pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2))
        out = self.norm(self.convolution(padded))
        return functional.relu6(out) if self.activated else out


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; the input is added where shapes allow it."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = dim_in * expansion
        self.expand = SameConvolution(dim_in, inner) if expansion > 1 else nn.Identity()
        self.depthwise = SameConvolution(inner, inner, kernel, stride, groups=inner)
        self.project = SameConvolution(inner, dim_out, activated=False)
        self.adds_input = stride == 1 and dim_in == dim_out

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = self.project(self.depthwise(self.expand(maps)))
        return maps + out if self.adds_input else out


class EfficientNetLiteModel(PreTrainedModel):
    """Pixels, normalised as (x - 127) / 128, to a map with a cell for every 32 x 32 pixels."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        width = config.stem_channels
        self.stem = SameConvolution(3, width, 3, 2)
        blocks = []
        for num_blocks, kernel, stride, expansion, channels in GROUPS:
            for number in range(num_blocks):
                blocks.append(InvertedResidual(width, channels, kernel, 1 if number else stride, expansion))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConvolution(width, config.hidden_size)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """pixel_values (images, 3, side, side) -> last_hidden_state (images, cells, hidden_size), row by row."""
        maps = self.stem(pixel_values)
        for block in self.blocks:
            maps = block(maps)
        cells = self.head(maps).flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=cells.mean(1), hidden_states=(cells,))
