"""Proof that only the method differs: the differences of the resolved configs, refused where the setting is touched."""

from typing import Any

from zoo.config import differences, to_dict
from zoo.definition import get_setting
from zoo.errors import ZooError
from zoo.run import RunConfig


def config_diff(configs: dict[str, RunConfig]) -> str:
    """A line for every key in which the resolved configs differ, with the value of each method that has the key.

    Raises:
        ZooError: something differs that the setting should hold equal.
    """
    setting = get_setting(next(iter(configs.values())).setting or "")
    held = [f"method.encoder.{key}" for key in setting.encoder]
    held += [f"method.language_model.{key}" for key in setting.language_model]
    held += [f"method.stages.{stage}.{key}" for stage, values in setting.stages.items() for key in values]
    # Where values came from is no setting of the run; it differs because the published values do.
    trees = {
        name: {k: v for k, v in to_dict(config).items() if k not in ("overrode", "label")}
        for name, config in configs.items()
    }
    reference = max(trees.values(), key=lambda tree: len(str(tree)))
    keys = sorted({key for tree in trees.values() for key, _, _ in differences(reference, tree)})
    lines = []
    for key in keys:
        values = {name: _look_up(tree, key.split(".")) for name, tree in trees.items()}
        present = {name: value for name, value in values.items() if value is not None}
        differs = len({str(value) for value in present.values()}) > 1
        if not key.startswith("method.") or (differs and any(f"{key}.".startswith(f"{h}.") for h in held)):
            raise ZooError(f"{key} differs between the methods ({values}); a comparison needs it equal for all of them")
        if any(isinstance(value, dict) for value in present.values()):
            missing = ", ".join(name for name, value in values.items() if value is None)
            lines += [f"  {key.removeprefix('method.')}: none in {missing}"] if missing else []
        else:
            shown = " | ".join(f"{name} {value}" for name, value in present.items())
            lines.append(f"  {key.removeprefix('method.')}: {shown}")
    return "\n".join(lines) or "  none"


def _look_up(tree: Any, keys: list[str]) -> Any:
    """The value under a path of ``differences``, where list entries are addressed by name; None if there is none."""
    for key in keys:
        if isinstance(tree, list):
            tree = next((entry for entry in tree if entry.get("name") == key), None)
        else:
            tree = tree.get(key)
        if tree is None:
            return None
    return tree
