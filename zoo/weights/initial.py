"""A connector's beginning: the Q-Former of a BLIP-2 checkpoint, which MiniGPT-4 and Video-LLaMA leave as it is."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from zoo.connectors import Connector
from zoo.errors import ZooError
from zoo.paths import quiet, resolve
from zoo.weights.checkpoint import open_checkpoint
from zoo.weights.files import WEIGHT_FILES, read_json
from zoo.weights.fill import fill
from zoo.weights.lavis import BLIP2_OPT_LAVIS
from zoo.weights.layouts import detect
from zoo.weights.tensors import Weights

# What the Q-Former is in, in transformers' layout and in LAVIS's. Shards of a hub id without any are not downloaded.
_WANTED = ("qformer.", "query_tokens", "vision_model.post_layernorm.", "embeddings.", "Qformer.", "ln_vision.")
# By which a checkpoint is recognised.
_MARK = "language_projection."


def fill_connector(connector: Connector, initial: str) -> None:
    """Give the parts named by ``connector.initial_names`` their values from ``initial``, in place.

    Args:
        initial: hub id, folder or file of a BLIP-2 or InstructBLIP checkpoint, transformers' or LAVIS's.

    Raises:
        ZooError: it cannot be read, has no Q-Former, or lacks a weight or has it in another shape, naming the key.
    """
    where, config, weights = _open(initial)
    is_lavis = any(key.startswith("Qformer.") for key in weights)
    layout = BLIP2_OPT_LAVIS if is_lavis else detect(config, weights.keys(), where=where)
    # LAVIS's files with one language model or another differ in the name of the projection alone, which is not read.
    found = layout.rename(
        (key for key in weights if key.startswith(("Qformer.", "query_", "ln_", *_WANTED))), "to_canonical"
    )
    names, spelling = {}, {}
    for key, theirs in found.items():
        for ours, prefix in connector.initial_names.items():
            if theirs.startswith(f"connector.{prefix}"):
                own = ours + theirs.removeprefix(f"connector.{prefix}")
                names[key], spelling[own] = own, key
    wanted = connector.state_dict()
    # A Q-Former with text gives one without what that has.
    names = {key: own for key, own in names.items() if own in wanted}
    elsewhere = tuple(key for key in wanted if not key.startswith(tuple(connector.initial_names)))
    device = next(connector.parameters()).device
    fill(connector, weights.renamed(names), device=device, elsewhere=elsewhere, spelling=spelling, where=where)


def _open(initial: str) -> tuple[str, dict, Weights]:
    path = Path(resolve(initial))
    if path.exists():
        checkpoint = open_checkpoint(path)
        return checkpoint.where, checkpoint.config, checkpoint.weights
    try:
        with quiet():
            config = read_json(Path(hf_hub_download(initial, "config.json")))
            return initial, config, _download(initial)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ZooError(
            f"connector.initial {initial!r} cannot be read ({reason}); give a folder or file of BLIP-2, map the id to "
            "one in the file named by ZOO_PATHS, or set connector.initial='' to start from random values"
        ) from None


def _download(id: str) -> Weights:
    index = read_json(Path(hf_hub_download(id, f"{WEIGHT_FILES[0]}.index.json")))["weight_map"]
    weights = Weights({})
    for shard in sorted({shard for key, shard in index.items() if key.startswith((*_WANTED, _MARK))}):
        weights |= Weights.of_file(Path(hf_hub_download(id, shard)))
    return weights
