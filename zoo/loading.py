"""Load a trained model: a run folder, a checkpoint, or a released checkpoint in a known layout."""

from pathlib import Path

import torch

from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.model import VLM
from zoo.run import CONFIG_FILE, load_run
from zoo.training.checkpoint import STATE_FILE, WEIGHTS_FILE, list_checkpoints, load_weights, read_state
from zoo.training.tuning import prepare_adapters


def load(path_or_id: "str | Path", *, dtype: torch.dtype = torch.float32) -> VLM:
    """A model ready for evaluation.

    Args:
        path_or_id: the folder of a run of ours (or its model/ or one of its checkpoints/), or of a released checkpoint
            whose layout ``zoo.weights`` knows.

    Raises:
        ZooError: nothing loadable there, a missing or extra key, another frozen base than the run's.
    """
    folder = Path(path_or_id)
    if not folder.is_dir():
        raise ZooError(f"{path_or_id} is no folder; give a run folder or a checkpoint folder")
    if (folder / "model" / WEIGHTS_FILE).is_file():
        folder = folder / "model"
    elif not (folder / WEIGHTS_FILE).is_file() and (found := list_checkpoints(folder / "checkpoints")):
        folder = found[-1]
    if not (folder / WEIGHTS_FILE).is_file():
        from zoo.weights import load_released

        return load_released(folder, dtype=dtype)
    config = load_run(folder / CONFIG_FILE)
    stages = config.method.stages
    if (folder / STATE_FILE).is_file():
        stages = stages[: read_state(folder)["stage_index"] + 1]
    model = build_model(config.method, seed=config.seed, dtype=dtype, attention=config.training.attention)
    prepare_adapters(model, stages, config.seed)
    load_weights(model, stages, folder)
    return model.eval()
