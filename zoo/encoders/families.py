"""What differs between the vision towers: the transformers class, its key names, its preprocessing."""

from dataclasses import dataclass

from transformers import (
    Blip2VisionConfig,
    Blip2VisionModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from zoo.data import transforms
from zoo.data.transforms import ImageTransform
from zoo.encoders.config import EncoderConfig
from zoo.encoders.davit import DaViTConfig, DaViTModel
from zoo.encoders.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel
from zoo.encoders.languagebind import LanguageBindVideoConfig, LanguageBindVideoModel
from zoo.errors import ZooError, nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kind of vision tower.

    ``model_types`` are the ``model_type`` values in ``config.json`` that it loads: its own first, then those of whole
    checkpoints that contain it. ``other_parts`` are the key prefixes of these checkpoints' other parts.
    ``file_prefix`` is the tower's prefix in those files where transformers does not know it by itself.
    ``position_argument``: whether interpolated positions must be asked for (DINOv2 does it by itself).
    ``final_norm_is_foreign``: what stands in its place in the checkpoints belongs to what reads the tower (BLIP-2).
    ``is_temporal``: the frames of a video see one another, so that they are encoded together.
    """

    model_class: type[PreTrainedModel]
    config_class: type[PreTrainedConfig]
    model_types: tuple[str, ...]
    other_parts: tuple[str, ...]
    final_norm: str
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    file_prefix: str = ""
    has_class_token: bool = True
    position_argument: bool = True
    final_norm_is_foreign: bool = False
    is_temporal: bool = False


_CLIP_PARTS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")

FAMILIES = (
    Family(
        model_class=CLIPVisionModel,
        config_class=CLIPVisionConfig,
        model_types=("clip_vision_model", "clip", "LanguageBindImage"),
        other_parts=_CLIP_PARTS,
        final_norm="post_layernorm",
        resize="crop",
        mean=transforms.CLIP_MEAN,
        std=transforms.CLIP_STD,
    ),
    Family(
        model_class=LanguageBindVideoModel,
        config_class=LanguageBindVideoConfig,
        model_types=("languagebind_video", "LanguageBindVideo"),
        other_parts=_CLIP_PARTS,
        final_norm="post_layernorm",
        resize="crop",
        mean=transforms.CLIP_MEAN,
        std=transforms.CLIP_STD,
        file_prefix="vision_model.",
        is_temporal=True,
    ),
    Family(
        model_class=SiglipVisionModel,
        config_class=SiglipVisionConfig,
        model_types=("siglip_vision_model", "siglip"),
        other_parts=("text_model.", "logit_scale", "logit_bias"),
        final_norm="post_layernorm",
        resize="squash",
        mean=transforms.SIGLIP_MEAN,
        std=transforms.SIGLIP_STD,
        has_class_token=False,
    ),
    Family(
        model_class=Dinov2Model,
        config_class=Dinov2Config,
        model_types=("dinov2",),
        other_parts=("classifier.",),
        final_norm="layernorm",
        resize="crop",
        mean=transforms.IMAGENET_MEAN,
        std=transforms.IMAGENET_STD,
        position_argument=False,
    ),
    Family(
        model_class=Blip2VisionModel,
        config_class=Blip2VisionConfig,
        model_types=("blip_2_vision_model", "instructblip_vision_model", "blip-2", "instructblip"),
        other_parts=(
            "qformer.",
            "query_tokens",
            "language_model.",
            "language_projection.",
            "embeddings.word_embeddings.",
            "embeddings.position_embeddings.",
            "vision_projection.",
            "text_projection.",
            "itm_head.",
        ),
        final_norm="post_layernorm",
        final_norm_is_foreign=True,
        resize="squash",
        mean=transforms.CLIP_MEAN,
        std=transforms.CLIP_STD,
        file_prefix="vision_model.",
    ),
    Family(
        model_class=EfficientNetLiteModel,
        config_class=EfficientNetLiteConfig,
        model_types=("efficientnet_lite",),
        other_parts=(),
        final_norm="",
        resize="squash",
        # (x - 127) / 128 of pixels from 0 to 255, as its weights were trained; ImageNet's figures are wrong for it.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        has_class_token=False,
        position_argument=False,
    ),
    Family(
        model_class=DaViTModel,
        config_class=DaViTConfig,
        model_types=("florence_vision",),
        other_parts=("model.multi_modal_projector.", "model.language_model.", "lm_head."),
        file_prefix="model.vision_tower.",
        final_norm="",
        resize="squash",
        mean=transforms.IMAGENET_MEAN,
        std=transforms.IMAGENET_STD,
        has_class_token=False,
        position_argument=False,
    ),
)


def family_of(model_type: str, *, where: str) -> Family:
    """The family that loads this ``model_type``; ``where`` names the file or key in the error.

    Raises:
        ZooError: for a type that no family loads.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = [name for family in FAMILIES for name in family.model_types]
    raise ZooError(f"{where}: model_type {model_type!r} is no vision encoder of the zoo.{nearest(model_type, known)}")


def side(value: object, *, where: str) -> int:
    """A size that transformers gives as a number or as a pair of equal numbers."""
    values = [value] if isinstance(value, int) else list(value)  # type: ignore[call-overload]
    if len(set(values)) != 1:
        raise ZooError(f"{where} is {value}; only squares are supported")
    return values[0]


def image_transform(config: EncoderConfig, architecture: PreTrainedConfig) -> ImageTransform:
    """The preprocessing of an encoder: what ``config`` leaves open comes from the family and the checkpoint."""
    family = family_of(architecture.model_type, where="encoder.architecture")
    return ImageTransform(
        size=config.image_size or side(architecture.image_size, where="encoder image_size"),
        resize=config.resize or family.resize,
        mean=config.mean or family.mean,
        std=config.std or family.std,
        interpolation=config.interpolation,
        pad_colour=config.pad_colour,
        shortest_edge=config.shortest_edge,
    )
