"""Load a trained model: a run folder, a checkpoint, or a released checkpoint in a known layout, here or on the hub."""

from pathlib import Path

import torch

from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.hub import is_hub_id, pull
from zoo.model import VLM
from zoo.paths import ASSETS, resolve
from zoo.registry import released_row
from zoo.run import CONFIG_FILE, load_run
from zoo.training.checkpoint import STATE_FILE, WEIGHTS_FILE, list_checkpoints, load_weights, read_state
from zoo.training.tuning import prepare_adapters

SHIPPED_SETTING = "scenes-tiny"


def shipped_weights(setting: str = SHIPPED_SETTING) -> dict[str, Path]:
    """Method -> folder of the weights trained under a setting that are part of the package."""
    return {path.parent.name: path.parent for path in sorted((ASSETS / setting / "weights").glob(f"*/{WEIGHTS_FILE}"))}


def locate(path_or_id: "str | Path", *, revision: str | None = None) -> Path:
    """The folder of a model: itself, of an id that ZOO_PATHS maps, of shipped weights, or fetched from the hub.

    Raises:
        ZooError: there is no such folder, method with shipped weights, or repository.
    """
    if (folder := Path(path_or_id)).is_dir():
        return folder
    name = str(path_or_id)
    if name in (shipped := shipped_weights()):
        return shipped[name]
    if (folder := Path(resolve(name))).is_dir():
        return folder
    # A mistyped path below a folder of ours is no id of the hub.
    if isinstance(path_or_id, Path) or not is_hub_id(name) or Path(name).parent.is_dir():
        raise ZooError(
            f"{name} is no folder; give a run, a checkpoint, a hub id (owner/name), or a method with shipped weights"
            + (f" ({', '.join(shipped)})" if shipped else "")
        )
    return pull(name, revision=revision)


def weights_folder(folder: Path) -> Path | None:
    """Where the weights of a run of ours lie: there, in its model/ or its newest checkpoint; None without any."""
    if (folder / "model" / WEIGHTS_FILE).is_file():
        return folder / "model"
    if (folder / WEIGHTS_FILE).is_file():
        return folder
    checkpoints = list_checkpoints(folder / "checkpoints")
    return checkpoints[-1] if checkpoints else None


def load(
    path_or_id: "str | Path",
    *,
    dtype: torch.dtype = torch.float32,
    device: "str | torch.device" = "cpu",
    revision: str | None = None,
    base: str | None = None,
    delta_of: str | None = None,
) -> VLM:
    """A model ready for evaluation.

    Args:
        path_or_id: the folder of a run of ours (or its model/ or one of its checkpoints/), or of a released checkpoint
            whose layout ``zoo.weights`` knows; the hub id of either; a method whose trained weights are shipped; or a
            file of released weights that has no folder of its own.
        dtype: of the parameters.
        device: where the model is to be.
        revision: of a hub id: branch, tag or commit.
        base: id or folder of the language model that a released checkpoint without one belongs to.
        delta_of: id or folder of the language model that a released difference is to be added to.

    Raises:
        ZooError: nothing loadable there, a missing or extra key, another frozen base than the run's.
    """
    row = released_row(str(path_or_id))
    if row.get("form") == "delta" and delta_of is None:
        raise ZooError(f"{path_or_id} is a difference to {row['base'][0]}; give delta_of={row['base'][0]!r}")
    found = Path(path_or_id) if Path(path_or_id).is_file() else locate(path_or_id, revision=revision)
    folder = weights_folder(found)
    if folder is None:
        from zoo.weights import load_released

        return load_released(found, dtype=dtype, device=device, base=base, delta_of=delta_of)
    if given := base or delta_of:
        raise ZooError(f"{path_or_id} names its bases itself; leave {given!r} out")
    config = load_run(folder / CONFIG_FILE)
    stages = config.saved_stages
    if (folder / STATE_FILE).is_file():
        stages = stages[: read_state(folder)["stage_index"] + 1]
    model = build_model(config.method, seed=config.seed, dtype=dtype, attention=config.training.attention)
    prepare_adapters(model, stages, config.seed)
    load_weights(model, stages, folder)
    return model.to(device).eval()
