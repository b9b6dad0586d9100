"""Pretrain the vision encoder of the setting scenes-tiny on images of the synthetic world's training split.

    python benchmarks/backbones/scenes_tiny_encoder.py --out zoo/assets/scenes-tiny/encoder --seed 0

The last layer learns to be a code: each attribute of the object under a patch, and the patch's place where it shows
one, stands for one of a set of orthonormal vectors drawn once, and the features are the sum of what holds. So every
attribute is one linear direction, all equally strong, and what a mean over patches says of the objects adds up.
Throw-away linear heads teach the earlier layers the same attributes and the class token which (colour, shape) pairs the
image shows. It never sees text.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from zoo.data.scenes import cell_labels, draw_scene, render_image
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.videos import draw_video
from zoo.data.scenes.world import CHANNELS, COLOURS, GRID, SHAPES, Scene
from zoo.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform

# A stream of random draws of its own: no scene is shared with the training samples or the evaluation items.
STREAM = 101
TRAIN, VALIDATION = 0, 1
STEPS, BATCH, PEAK_LR = 2000, 64, 1.5e-3
# Objects of videos lie between cells while they move.
VIDEO_SHARE = 0.2
# Layers before the last that heads read: methods with features of several levels find the objects there too.
HEAD_LAYERS = (2, 3)
ENCODER = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 16,
    "projection_dim": 96,
}
PARTS = {**{channel: len(words) for channel, words in CHANNELS.items()}, "place": GRID * GRID}
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def shown_scene(seed: int, split: int, index: int) -> Scene:
    """A scene, or what a moment of a video shows."""
    draw = Draw(seed, split, STREAM, index)
    if not draw.coin(VIDEO_SHARE):
        return draw_scene(draw, "")
    scene, time_shown = draw_video(draw, ""), draw.uniform()
    things = []
    for thing, motion in zip(scene.things, scene.motions, strict=True):
        if time_shown >= motion.appears:
            done = motion.progress(time_shown) / GRID
            things.append(replace(thing, x=thing.x + done * motion.columns, y=thing.y + done * motion.rows))
    return Scene(name="", things=tuple(things), background=scene.background)


def patch_labels(scene: Scene, grid: int) -> np.ndarray:
    """(grid * grid, 5) int64: cell_labels and behind them the patch's own place, from 1; 0 where it shows nothing."""
    labels = cell_labels(scene, grid)
    places = np.where(labels[:, 0] > 0, np.arange(1, grid * grid + 1), 0)
    return np.concatenate([labels, places[:, None]], axis=1)


def draw_code(seed: int, width: int) -> torch.Tensor:
    """(1 + words of all parts, width): orthogonal rows, the first for a patch without an object.

    They are as long as makes the features of an object's patch unit-sized: five rows add up to a mean square of one.
    """
    generator = torch.Generator().manual_seed(seed)
    square = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return square[: 1 + sum(PARTS.values())] * (width / len(PARTS)) ** 0.5


def coded(labels: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """(..., 5) labels -> (..., width): the sum of the rows that hold."""
    starts = torch.tensor([0, *PARTS.values()][:-1]).cumsum(0)
    rows = torch.where(labels > 0, labels + starts, 0)
    total = code[rows].sum(-2)
    return torch.where(labels[..., :1] > 0, total, code[0].expand_as(total))


def encoder_batch(
    seed: int, split: int, indices: Sequence[int], transform: ImageTransform, grid: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pixels (batch, 3, size, size), patch labels (batch, patches, 5), pairs in the image (batch, 24)."""
    pixels, labels, pairs = [], [], torch.zeros(len(indices), len(PAIRS))
    for row, index in enumerate(indices):
        scene = shown_scene(seed, split, index)
        pixels.append(transform.apply(render_image(scene, transform.size))[0])
        labels.append(patch_labels(scene, grid))
        for thing in scene.things:
            pairs[row, PAIRS.index((thing.colour, thing.shape))] = 1
    return torch.stack(pixels), torch.from_numpy(np.stack(labels)), pairs


class EncoderHeads(nn.Module):
    """The throw-away heads: linear layers for the attributes at each of HEAD_LAYERS and for the pairs in the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        num_labels = sum(size + 1 for size in PARTS.values())
        self.patch = nn.ModuleList(nn.Linear(width, num_labels) for _ in HEAD_LAYERS)
        self.whole = nn.Linear(width, len(PAIRS))


def head_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy summed over the parts. logits (..., all labels), labels (..., 5)."""
    pieces = logits.flatten(0, -2).split([size + 1 for size in PARTS.values()], dim=-1)
    targets = labels.flatten(0, -2).unbind(-1)
    return sum(functional.cross_entropy(piece, target) for piece, target in zip(pieces, targets, strict=True))


def cosine(step: int, total: int, warm: int) -> float:
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


def optimizer_for(modules: Sequence[nn.Module], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW without decay on vectors."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))


def train_encoder(seed: int, steps: int) -> tuple[CLIPVisionModel, EncoderHeads, torch.Tensor]:
    torch.manual_seed(seed)
    model = CLIPVisionModel(CLIPVisionConfig(**ENCODER))
    heads = EncoderHeads(model.config.hidden_size)
    code = draw_code(seed, model.config.hidden_size)
    transform = ImageTransform(size=ENCODER["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    grid = ENCODER["image_size"] // ENCODER["patch_size"]
    optimizer = optimizer_for([model, heads], PEAK_LR, 0.05)
    for step in range(steps):
        indices = range(step * BATCH, (step + 1) * BATCH)
        pixels, labels, pairs = encoder_batch(seed, TRAIN, indices, transform, grid)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps, 100)
        output = model(pixel_values=pixels, output_hidden_states=True)
        loss = 10 * functional.mse_loss(output.last_hidden_state[:, 1:], coded(labels, code))
        for layer, head in zip(HEAD_LAYERS, heads.patch, strict=True):
            loss = loss + 0.2 * head_loss(head(output.hidden_states[layer][:, 1:]), labels)
        loss = loss + functional.binary_cross_entropy_with_logits(heads.whole(output.pooler_output), pairs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {float(loss.detach()):.4f} cpu {time.process_time():.0f} s", flush=True)
    return model.eval(), heads.eval(), code


@torch.no_grad()
def measure_encoder(
    model: CLIPVisionModel, heads: EncoderHeads, code: torch.Tensor, seed: int, num_scenes: int = 512
) -> dict[str, float]:
    """Of scenes never trained on: the part of patches with an object whose nearest row of the code is the right one,
    the part of images of which all ``pairs`` are right, and the ``error``: mean square of features less their code."""
    transform = ImageTransform(size=ENCODER["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    grid = ENCODER["image_size"] // ENCODER["patch_size"]
    pixels, labels, pairs = encoder_batch(seed, VALIDATION, range(num_scenes), transform, grid)
    output = model(pixel_values=pixels)
    tokens = output.last_hidden_state[:, 1:]
    shown = labels[..., 0] > 0
    found = {}
    scores = (tokens @ code.T)[..., 1:].split(list(PARTS.values()), dim=-1)
    for place, (name, score) in enumerate(zip(PARTS, scores, strict=True)):
        found[name] = float((score.argmax(-1) + 1 == labels[..., place])[shown].float().mean())
    found["empty"] = float((((tokens @ code[0]) > code[0] @ code[0] / 2) == ~shown).float().mean())
    found["pairs"] = float(((heads.whole(output.pooler_output) > 0) == (pairs > 0)).all(1).float().mean())
    found["error"] = float(functional.mse_loss(tokens, coded(labels, code)))
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    # One thread, so that the sums are made in the same order wherever the script runs.
    torch.set_num_threads(1)
    encoder, heads, code = train_encoder(options.seed, options.steps)
    print(f"held out: {measure_encoder(encoder, heads, code, options.seed)}")
    print(f"{time.process_time():.0f} CPU seconds")
    encoder.save_pretrained(options.out)


if __name__ == "__main__":
    main()
