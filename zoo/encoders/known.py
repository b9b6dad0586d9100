"""Short names of published vision encoders and what they are made of, so that nothing is downloaded to count them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownEncoder:
    """``id`` on the hub, and the fields of its transformers vision configuration, ``model_type`` included."""

    id: str
    architecture: Mapping[str, Any]


def _clip(*, width: int, num_layers: int, num_heads: int, patch: int, size: int, projection: int) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "patch_size": patch,
        "image_size": size,
        "projection_dim": projection,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }


def _siglip(*, width: int, mlp: int, num_layers: int, num_heads: int, patch: int, size: int) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "patch_size": patch,
        "image_size": size,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }


def _dinov2(*, width: int, num_layers: int, num_heads: int) -> dict[str, Any]:
    return {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "mlp_ratio": 4,
        "patch_size": 14,
        "image_size": 518,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "layerscale_value": 1.0,
    }


# EVA-CLIP-g without its last block, as BLIP-2, InstructBLIP and MiniGPT-4 use it. The repository is the smallest whole
# checkpoint that carries the (frozen, hence original) tower. The block epsilon is 1e-6; some revisions of hub
# configurations said 1e-5, which is why the architecture here takes precedence over the file's.
_EVA_CLIP_G = {
    "model_type": "blip_2_vision_model",
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}

# LanguageBind starts from OpenCLIP's ViT-L/14, whose activation is the exact gelu.
_LANGUAGEBIND = _clip(width=1024, num_layers=24, num_heads=16, patch=14, size=224, projection=768) | {
    "hidden_act": "gelu"
}

KNOWN_ENCODERS: Mapping[str, KnownEncoder] = {
    "clip-vit-b-32": KnownEncoder(
        id="openai/clip-vit-base-patch32",
        architecture=_clip(width=768, num_layers=12, num_heads=12, patch=32, size=224, projection=512),
    ),
    "clip-vit-l-224": KnownEncoder(
        id="openai/clip-vit-large-patch14",
        architecture=_clip(width=1024, num_layers=24, num_heads=16, patch=14, size=224, projection=768),
    ),
    "clip-vit-l-336": KnownEncoder(
        id="openai/clip-vit-large-patch14-336",
        architecture=_clip(width=1024, num_layers=24, num_heads=16, patch=14, size=336, projection=768),
    ),
    "clip-vit-h-224": KnownEncoder(
        id="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        architecture=_clip(width=1280, num_layers=32, num_heads=16, patch=14, size=224, projection=1024)
        | {"hidden_act": "gelu"},
    ),
    "clip-vit-bigg-224": KnownEncoder(
        id="laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        architecture=_clip(width=1664, num_layers=48, num_heads=16, patch=14, size=224, projection=1280)
        | {"hidden_act": "gelu", "intermediate_size": 8192},
    ),
    "siglip-base-224": KnownEncoder(
        id="google/siglip-base-patch16-224",
        architecture=_siglip(width=768, mlp=3072, num_layers=12, num_heads=12, patch=16, size=224),
    ),
    "siglip-so400m-224": KnownEncoder(
        id="google/siglip-so400m-patch14-224",
        architecture=_siglip(width=1152, mlp=4304, num_layers=27, num_heads=16, patch=14, size=224),
    ),
    "siglip-so400m-384": KnownEncoder(
        id="google/siglip-so400m-patch14-384",
        architecture=_siglip(width=1152, mlp=4304, num_layers=27, num_heads=16, patch=14, size=384),
    ),
    "dinov2-b": KnownEncoder(id="facebook/dinov2-base", architecture=_dinov2(width=768, num_layers=12, num_heads=12)),
    "dinov2-l": KnownEncoder(id="facebook/dinov2-large", architecture=_dinov2(width=1024, num_layers=24, num_heads=16)),
    "languagebind-image": KnownEncoder(id="LanguageBind/LanguageBind_Image", architecture=_LANGUAGEBIND),
    "languagebind-video": KnownEncoder(
        id="LanguageBind/LanguageBind_Video_merge",
        architecture=_LANGUAGEBIND | {"model_type": "languagebind_video", "num_frames": 8},
    ),
    # The towers of the two sizes of Florence-2, in whole checkpoints.
    "davit-b-768": KnownEncoder(
        id="florence-community/Florence-2-base", architecture={"model_type": "florence_vision", "projection_dim": 768}
    ),
    "davit-l-768": KnownEncoder(
        id="florence-community/Florence-2-large",
        architecture={
            "model_type": "florence_vision",
            "embed_dim": [256, 512, 1024, 2048],
            "num_heads": [8, 16, 32, 64],
            "num_groups": [8, 16, 32, 64],
            "projection_dim": 1024,
        },
    ),
    "eva-clip-g-224": KnownEncoder(id="Salesforce/blip2-itm-vit-g", architecture=_EVA_CLIP_G),
}
