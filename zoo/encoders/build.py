"""Building a vision encoder: on the meta device, with random weights, or with a checkpoint's, all of them or none."""

import re

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from zoo.encoders.config import EncoderConfig
from zoo.encoders.source import Source, resolve, unreachable
from zoo.encoders.vision import VisionEncoder
from zoo.errors import ZooError
from zoo.paths import quiet
from zoo.unfilled import unfilled


def build_encoder(
    config: EncoderConfig,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    meta: bool = False,
    pretrained: bool = True,
    attention: str = "zoo",
    filled_later: bool = False,
) -> VisionEncoder:
    """Build the encoder that ``config`` describes, in evaluation mode.

    Args:
        config: what to build.
        device: where to put it; None leaves it where it was loaded (the CPU).
        dtype: of the parameters; None is torch's default type, whatever the file holds.
        meta: no weights at all, for counting; a known name then needs neither network nor cache.
        pretrained: False fills the checkpoint's architecture with random weights (torch's global generator).
        attention: name of a registered attention implementation; ``zoo`` and ``zoo_*`` are the project's own, ``sdpa``
            and ``eager`` transformers'.
        filled_later: instead of random weights, matrices on the meta device (``zoo.unfilled``).

    Raises:
        ZooError: for an id that cannot be read, or a checkpoint whose keys or shapes do not fit exactly.
    """
    source = resolve(config)
    if attention.partition("_")[0] == "zoo":
        from zoo.attention import register

        register()
    dtype = dtype or torch.get_default_dtype()
    if meta:
        with torch.device("meta"):
            model = source.family.model_class(source.architecture).to(dtype)
    elif source.location is None or not pretrained:
        with unfilled(filled_later):
            model = source.family.model_class(source.architecture).to(dtype)
    else:
        model = _load(source, config, dtype)
    model.set_attn_implementation(attention)
    video = None
    if config.video is not None:
        video = build_encoder(
            config.video,
            dtype=dtype,
            meta=meta,
            pretrained=pretrained,
            attention=attention,
            filled_later=filled_later,
        )
    encoder = VisionEncoder(model, config, video).eval()
    return encoder if device is None or meta else encoder.to(device)


def _load(source: Source, config: EncoderConfig, dtype: torch.dtype) -> PreTrainedModel:
    assert source.location is not None
    family = source.family
    mapping = {"^" + re.escape(family.file_prefix): ""} if family.file_prefix else None
    try:
        with quiet():
            model, report = family.model_class.from_pretrained(
                source.location,
                config=source.architecture,
                revision=config.revision,
                dtype=dtype,
                key_mapping=mapping,
                # Mismatches come back in the report, and are refused below with their names.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, SafetensorError) as error:
        raise unreachable(config, source.location, error) from error
    missing = set(report["missing_keys"])
    if family.final_norm_is_foreign and not config.post_norm:
        missing -= {f"{family.final_norm}.weight", f"{family.final_norm}.bias"}
    _check_keys("missing", sorted(missing), config)
    unexpected = [key for key in report["unexpected_keys"] if not key.startswith(family.other_parts)]
    # Old files store the position indices, a constant that transformers now computes.
    _check_keys("unexpected", sorted(key for key in unexpected if not key.endswith(".position_ids")), config)
    _check_keys("wrongly shaped", sorted(str(entry[0]) for entry in report["mismatched_keys"]), config)
    return model


def _check_keys(kind: str, keys: list[str], config: EncoderConfig) -> None:
    if keys:
        names = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
        raise ZooError(
            f"encoder {config.id!r}: {len(keys)} {kind} weights ({names}); use the checkpoint that belongs "
            "to its config.json"
        )
