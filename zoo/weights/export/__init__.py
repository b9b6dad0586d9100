"""Write a model as a checkpoint that transformers' own class loads, with equal logits."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from zoo.errors import ZooError, nearest
from zoo.model import VLM
from zoo.weights.export.blip2 import export_blip2, export_instructblip
from zoo.weights.export.idefics import export_idefics
from zoo.weights.export.kosmos_2 import export_kosmos_2
from zoo.weights.export.llava import export_llava
from zoo.weights.export.state import Exported
from zoo.weights.layouts import get_layout

EXPORTERS: dict[str, Callable[[VLM], Exported]] = {
    "llava-hf": export_llava,
    "blip2-hf": export_blip2,
    "instructblip-hf": export_instructblip,
    "kosmos-2-hf": export_kosmos_2,
    "idefics-hf": export_idefics,
}


def layout_for(model: VLM) -> str:
    """The layout that a model of this connector and fusion is written in. Raises ZooError where there is none."""
    connector, fusion = model.method.connector, model.method.fusion.kind
    kind = connector.kind if connector is not None else "none"
    if fusion == "splice" and kind in ("mlp", "linear"):
        return "llava-hf"
    if fusion == "splice" and kind == "qformer":
        return "instructblip-hf" if connector.reads_instruction else "blip2-hf"
    if fusion == "splice" and kind == "kosmos-2":
        return "kosmos-2-hf"
    if fusion == "idefics_cross_attention" and kind == "resampler":
        return "idefics-hf"
    raise ZooError(
        f"method {model.method.name!r} cannot be exported: transformers has no class for connector {kind} with fusion "
        f"{fusion}; use zoo pack"
    )


def export(model: VLM, folder: "str | Path", layout: str | None = None) -> None:
    """Write config.json, model.safetensors and the tokenizers, if there are any, for transformers' class of a layout.

    transformers marks the positions of an image by the id of a placeholder token. It is the one of the checkpoint that
    the model came from, or the tokenizer's ``<image>``; where there is neither, one row is appended to embedding and
    head, and the logits have one more column. Added tokens become rows of the vocabulary.

    Args:
        layout: a name of ``EXPORTERS``; default: the one that the model's connector and fusion belong to.

    Raises:
        ZooError: a layout without export, or a model that the class has no place for.
    """
    layout = layout or layout_for(model)
    if layout not in EXPORTERS:
        raise ZooError(f"layout {layout} cannot be exported.{nearest(layout, list(EXPORTERS))}")
    folder = Path(folder)
    made = EXPORTERS[layout](model)
    names = get_layout(layout).rename(made.state, "from_canonical")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {new: made.state[old].contiguous() for old, new in names.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    dtype = str(next(model.language_model.parameters()).dtype).removeprefix("torch.")
    config = {**made.config, "dtype": dtype}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if model.language_model.has_tokenizer:
        model.language_model.tokenizer.save_pretrained(folder)
    if model.method.connector is not None and model.method.connector.reads_text and model.language_model.has_tokenizer:
        model.instruction_tokenizer.save_pretrained(folder / "qformer_tokenizer")
