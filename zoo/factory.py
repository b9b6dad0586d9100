"""Build a method's model: as published, or under a setting, on any device, the meta device included."""

from collections.abc import Collection
from typing import Any

import torch

from zoo.config import PARTS, override
from zoo.definition import Method, Setting, get_setting
from zoo.encoders import build_encoder
from zoo.language import build_language_model, load_instruction_tokenizer
from zoo.model import VLM
from zoo.registry import get_method
from zoo.unfilled import unfilled


def configure(name: str, setting: "Setting | str | None" = None, overrides: dict[str, Any] | None = None) -> Method:
    """The method's config, put under a setting, then overridden (``{"stages.align.lr": 1e-3}``).

    Raises:
        ZooError: unknown method, setting or key, each with the nearest match.
    """
    method = get_method(name)
    if setting is not None:
        method, _ = method.under(get_setting(setting) if isinstance(setting, str) else setting)
    return override(method, overrides or {})


def build_model(
    method: Method,
    *,
    seed: int = 0,
    pretrained: "bool | Collection[str]" = True,
    tokenizer: bool = True,
    dtype: torch.dtype = torch.float32,
    attention: str = "auto",
    filled_later: bool = False,
) -> VLM:
    """Build the parts of a method. The same seed gives the same fresh weights whatever was drawn before.

    Args:
        pretrained: False reads no weights: all parts are random, from their configs. Or the names of those that do.
        tokenizer: False leaves it out (sizes of known models can then be counted without any file).
        filled_later: matrices that no weights are read for stay on the meta device, for ``zoo.weights.fill``.
    """
    reading = frozenset(PARTS if pretrained is True else pretrained or ())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        language_model = build_language_model(
            method.language_model,
            added_tokens=method.vocabulary,
            pretrained="language_model" in reading,
            tokenizer=tokenizer,
            dtype=dtype,
            attention=attention,
            filled_later=filled_later,
        )
        encoder = connector = instruction_tokenizer = None
        dim_media = language_model.dim
        if method.encoder is not None and method.connector is not None:
            implementation = "zoo" if attention == "auto" else f"zoo_{attention}"
            encoder = build_encoder(
                method.encoder, pretrained="encoder" in reading, attention=implementation, filled_later=filled_later
            ).to(dtype)
            dim_media = method.fusion.media_dim(dim_features=encoder.dim, dim_model=language_model.dim)
            vocabulary = {}
            if method.connector.reads_text:
                if tokenizer and method.connector.instruction_tokenizer:
                    instruction_tokenizer = load_instruction_tokenizer(method.connector.instruction_tokenizer)
                reader = instruction_tokenizer or (language_model.tokenizer if language_model.has_tokenizer else ())
                vocabulary = {"instruction_vocabulary": len(reader)}
            # Fresh weights depend on the seed and the method alone, not on how many the parts before drew.
            torch.manual_seed(seed)
            initial = method.connector.initial if "connector" in reading else ""
            with unfilled(filled_later and not initial):
                connector = method.connector.build(
                    dim_in=encoder.dim,
                    dim_out=dim_media,
                    grid=encoder.grid,
                    num_features=encoder.num_tokens,
                    **vocabulary,
                ).to(dtype)
            if initial:
                from zoo.weights.initial import fill_connector

                fill_connector(connector, initial)
        torch.manual_seed(seed)
        with unfilled(filled_later):
            fusion = method.fusion.build(dim_media=dim_media, language_model=language_model).to(dtype)
    return VLM(
        method,
        encoder=encoder,
        connector=connector,
        fusion=fusion,
        language_model=language_model,
        instruction_tokenizer=instruction_tokenizer,
    ).eval()


def build(name: str, setting: "Setting | str | None" = None, *, seed: int = 0, **overrides: Any) -> VLM:
    """``zoo.build("llava-1.5", "scenes-tiny", **{"connector.depth": 3})``: a model with its pretrained bases."""
    return build_model(configure(name, setting, overrides), seed=seed)


def build_on_meta(method: Method) -> VLM:
    """The model at full size without memory or downloads, to count parameters and check key maps."""
    with torch.device("meta"):
        return build_model(method, pretrained=False, tokenizer=False)
