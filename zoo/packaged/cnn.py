"""EfficientNet-Lite0's checkpoint, under the names of ``zoo.encoders.efficientnet_lite``."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from zoo.encoders.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel
from zoo.errors import ZooError
from zoo.packaged.archives import read_member
from zoo.paths import quiet

# (their name, ours); the classifier of 1,000 ImageNet classes is left out.
NAMES = (
    (r"_conv_stem\.", "stem.convolution."),
    (r"_bn0\.", "stem.norm."),
    (r"_conv_head\.", "head.convolution."),
    (r"_bn1\.", "head.norm."),
    (r"_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.convolution."),
    (r"_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.convolution."),
    (r"_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.convolution."),
    (r"_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)
CLASSIFIER = "_fc."


def convert(files: Sequence[Path], out: Path) -> None:
    """Write config.json and model.safetensors. Raises ZooError for a missing, extra or wrongly shaped tensor."""
    theirs = torch.load(io.BytesIO(read_member(files[0], ".pth")), weights_only=True)
    state = {_renamed(name): tensor for name, tensor in theirs.items() if not name.startswith(CLASSIFIER)}
    model = EfficientNetLiteModel(EfficientNetLiteConfig())
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ZooError(f"{files[0].name}: no EfficientNet-Lite0 ({' '.join(str(error).split())})") from None
    with quiet():
        model.save_pretrained(out)


def _renamed(name: str) -> str:
    for pattern, ours in NAMES:
        renamed, count = re.subn(f"^{pattern}", ours, name)
        if count:
            return renamed
    return name
