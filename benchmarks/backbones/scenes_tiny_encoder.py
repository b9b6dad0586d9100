"""Pretrain the vision encoder of the setting scenes-tiny on images of the synthetic world's training split.

    python benchmarks/backbones/scenes_tiny_encoder.py --out zoo/assets/scenes-tiny/encoder --seed 0

It learns the attributes of the object under each patch, read by throw-away linear heads from its last layer, and from
the class token which (colour, shape) pairs the image shows. It never sees text.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from zoo.data.scenes import cell_labels, draw_scene, render_image
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.world import CHANNELS, COLOURS, SHAPES, Scene
from zoo.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform

# A stream of random draws of its own: no scene is shared with the training samples or the evaluation items.
STREAM = 101
TRAIN, VALIDATION = 0, 1
STEPS = 1500
ENCODER = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 16,
    "projection_dim": 96,
}
HEADS = {**{channel: len(words) + 1 for channel, words in CHANNELS.items()}, "place": 10}
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def patch_labels(scene: Scene, grid: int) -> np.ndarray:
    """(grid * grid, 5) int64: cell_labels, and behind them the place (from 1) of the object that the patch shows."""
    labels = cell_labels(scene, grid)
    places = np.zeros(grid * grid, dtype=np.int64)
    for thing in scene.things:
        alone = cell_labels(Scene(name="", things=(thing,), background=scene.background), grid)
        mine = (alone[:, 0] > 0) & (alone == labels).all(axis=1) & (places == 0)
        places[mine] = 1 + thing.row * 3 + thing.column
    return np.concatenate([labels, places[:, None]], axis=1)


def encoder_batch(
    seed: int, split: int, indices: Sequence[int], transform: ImageTransform, grid: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pixels (batch, 3, size, size), patch labels (batch, patches, 5), pairs in the image (batch, 24)."""
    pixels, labels, pairs = [], [], torch.zeros(len(indices), len(PAIRS))
    for row, index in enumerate(indices):
        scene = draw_scene(Draw(seed, split, STREAM, index), "")
        pixels.append(transform.apply(render_image(scene, transform.size))[0])
        labels.append(patch_labels(scene, grid))
        for thing in scene.things:
            pairs[row, PAIRS.index((thing.colour, thing.shape))] = 1
    return torch.stack(pixels), torch.from_numpy(np.stack(labels)), pairs


class EncoderHeads(nn.Module):
    """The throw-away heads: one linear layer for each attribute of a patch, one for the pairs in the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})
        self.whole = nn.Linear(width, len(PAIRS))


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


def train_encoder(seed: int, steps: int, batch: int = 64, lr: float = 1.5e-3) -> tuple[CLIPVisionModel, EncoderHeads]:
    torch.manual_seed(seed)
    model = CLIPVisionModel(CLIPVisionConfig(**ENCODER))
    heads = EncoderHeads(model.config.hidden_size)
    transform = ImageTransform(size=ENCODER["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    grid = ENCODER["image_size"] // ENCODER["patch_size"]
    optimizer = optimizer_for([model, heads], lr, 0.05)
    for step in range(steps):
        pixels, labels, pairs = encoder_batch(seed, TRAIN, range(step * batch, (step + 1) * batch), transform, grid)
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(step, steps, 100)
        output = model(pixel_values=pixels)
        tokens = output.last_hidden_state[:, 1:]
        # Features of unit scale: the connector starts from inputs as large as its initialisation expects.
        loss = 0.01 * (tokens.pow(2).mean() - 1).pow(2)
        for place, head in enumerate(heads.patch.values()):
            loss = loss + functional.cross_entropy(head(tokens).flatten(0, 1), labels[..., place].flatten())
        loss = loss + functional.binary_cross_entropy_with_logits(heads.whole(output.pooler_output), pairs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(
                f"encoder step {step + 1} loss {float(loss.detach()):.4f} cpu {time.process_time():.0f} s", flush=True
            )
    return model.eval(), heads.eval()


@torch.no_grad()
def measure_encoder(model: CLIPVisionModel, heads: EncoderHeads, seed: int, num_scenes: int = 512) -> dict[str, float]:
    """Accuracy of the heads on patches that show an object, in scenes never trained on; ``pairs``: of whole images."""
    transform = ImageTransform(size=ENCODER["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    grid = ENCODER["image_size"] // ENCODER["patch_size"]
    pixels, labels, pairs = encoder_batch(seed, VALIDATION, range(num_scenes), transform, grid)
    output = model(pixel_values=pixels)
    tokens = output.last_hidden_state[:, 1:]
    shown = labels[..., 0] > 0
    found = {}
    for place, (name, head) in enumerate(heads.patch.items()):
        found[name] = float((head(tokens).argmax(-1) == labels[..., place])[shown].float().mean())
    found["pairs"] = float(((heads.whole(output.pooler_output) > 0) == (pairs > 0)).all(1).float().mean())
    found["rms"] = float(tokens.pow(2).mean().sqrt())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # One thread, so that the sums are made in the same order wherever the script runs.
    torch.set_num_threads(1)
    encoder, heads = train_encoder(options.seed, STEPS)
    print(f"held out: {measure_encoder(encoder, heads, options.seed)}")
    print(f"{time.process_time():.0f} CPU seconds")
    encoder.save_pretrained(options.out)


if __name__ == "__main__":
    main()
