"""RoIAlign in plain torch (He et al., 2017, Mask R-CNN, section 3), as torchvision's ``roi_align`` computes it.

Bilinear sampling on a regular grid is separable: the weights of a box are one matrix along y and one along x, and the
average over a bin's samples can be taken of the weights. So pooling is two matrix products, which are exact to
differentiate and, unlike a scatter of gathered corners, deterministic in the backward pass on every device.
"""

import torch
from torch import Tensor


def roi_align(
    features: Tensor,
    boxes: Tensor,
    box_index: Tensor,
    *,
    size: int,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Average of ``sampling_ratio``^2 bilinear samples in each of ``size`` x ``size`` bins of every box.

    Equal to ``torchvision.ops.roi_align(features, boxes, size, 1.0, sampling_ratio, aligned)``, and differentiable in
    the boxes as well. Samples are taken in float32 whatever the type of ``features``; the result has that type.

    Args:
        features: (images, channels, height, width).
        boxes: (boxes, 4), corners x0, y0, x1, y1 in continuous coordinates of the map: 0 is the left edge of the
            first cell, ``width`` the right edge of the last.
        box_index: (boxes,) integers, the image of each box.
        aligned: cells lie at half-integer coordinates (False repeats the older half-cell shift and its minimum side 1).

    Returns:
        (boxes, channels, size, size), boxes in their order.
    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; give at least one sample a side of a bin")
    height, width = features.shape[-2:]
    x0, y0, x1, y1 = boxes.float().unbind(-1)
    along_y = _weights(y0, y1, height, size, sampling_ratio, aligned)  # (boxes, size, height)
    along_x = _weights(x0, x1, width, size, sampling_ratio, aligned)  # (boxes, size, width)
    pooled = features.new_zeros(len(boxes), features.shape[1], size, size, dtype=torch.float32)
    for image in box_index.unique().tolist():
        own = (box_index == image).nonzero()[:, 0]
        # One product for all boxes of an image: the map itself is not repeated for each of them.
        by_column = torch.einsum("chw,bqw->bchq", features[image].float(), along_x[own])
        pooled = pooled.index_copy(0, own, torch.einsum("bph,bchq->bcpq", along_y[own], by_column))
    return pooled.to(features.dtype)


def _weights(low: Tensor, high: Tensor, length: int, size: int, num_samples: int, aligned: bool) -> Tensor:
    """Weights of the cells along one axis, averaged over the samples of each bin: (boxes, size, length)."""
    offset = 0.5 if aligned else 0.0
    start, extent = low - offset, high - low
    if not aligned:
        extent = extent.clamp(min=1.0)
    steps = (torch.arange(size * num_samples, device=low.device, dtype=low.dtype) + 0.5) / num_samples
    at = start[:, None] + steps * (extent[:, None] / size)  # (boxes, size * samples)
    inside = (at >= -1.0) & (at <= length)
    # Beyond the centre of an outer cell, that cell's value goes on until one cell outside the map.
    at = at.clamp(0, length - 1)
    cells = torch.arange(length, device=low.device, dtype=low.dtype)
    hats = (1 - (at[..., None] - cells).abs()).clamp(min=0) * inside[..., None]
    return hats.unflatten(1, (size, num_samples)).mean(2)
