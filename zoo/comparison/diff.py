"""Proof that only the method differs: the differences of the resolved configs, refused where the setting is touched."""

from typing import Any

from zoo.config import differences, to_dict
from zoo.definition import get_setting
from zoo.errors import ZooError
from zoo.run import RunConfig


def config_diff(configs: dict[str, RunConfig]) -> str:
    """A line for every key in which the resolved configs differ, with each method's value.

    Raises:
        ZooError: something differs that the setting should hold equal.
    """
    fixed_setting = get_setting(next(iter(configs.values())).setting or "")
    held = {f"method.encoder.{key}" for key in fixed_setting.encoder}
    held |= {f"method.language_model.{key}" for key in fixed_setting.language_model}
    held |= {f"method.stages.{stage}.{key}" for stage, values in fixed_setting.stages.items() for key in values}
    values = {name: to_dict(config) for name, config in configs.items()}
    keys: dict[str, None] = {}
    reference = max(values, key=lambda name: len(str(values[name])))
    for name in values:
        for key, _, _ in differences(values[reference], values[name]):
            keys[key] = None
    lines = []
    for key in keys:
        if key.split(".")[0] == "overrode":
            continue
        shown = {name: _look_up(tree, key.split(".")) for name, tree in values.items()}
        present = {str(value) for value in shown.values() if value is not None}
        outside = not key.startswith("method.")
        if outside or (any(key == h or key.startswith(f"{h}.") for h in held) and len(present) > 1):
            raise ZooError(
                f"{key} differs between the methods ({shown}); an equal comparison needs it the same for all"
            )
        lines.append(f"  {key.removeprefix('method.')}: " + " | ".join(f"{name} {v}" for name, v in shown.items()))
    return "\n".join(lines) or "  none"


def _look_up(tree: Any, keys: list[str]) -> Any:
    for i, key in enumerate(keys):
        if isinstance(tree, list):
            tree = next((entry for entry in tree if entry.get("name") == key), None)
        elif isinstance(tree, dict):
            if (rest := ".".join(keys[i:])) in tree:
                return tree[rest]
            tree = tree.get(key)
        if tree is None:
            return None
    return "(as above)" if isinstance(tree, dict) else tree
