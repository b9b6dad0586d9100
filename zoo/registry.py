"""Methods by exact name. Facts come from registry.yaml without importing anything; code is imported when asked for."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.definition import Method

FAMILIES = ("llava", "blip2", "flamingo", "region", "video", "baseline")
CAPABILITIES = ("image", "multi_image", "region_in", "box_out", "video", "few_shot")
ENTRY_KEYS = {
    "family": str,
    "module": str,
    "summary": str,
    "paper": dict,
    "code": str,
    "taxonomy": list,
    "capabilities": list,
    "weights": list,
    "published": list,
}
WEIGHT_KEYS = {"id": str, "revision": str, "layout": str, "licence": str, "base": list, "confidence": str}
# File -> its hash, where the revision is pinned to a commit: then it is checked without asking the hub.
# form: what the files are without their base: whole (the default), partial, delta (a difference to it) or adapter.
OPTIONAL_WEIGHT_KEYS = {"sha256": dict, "form": str}
WEIGHT_FORMS = ("whole", "partial", "delta", "adapter")
# What released weights were trained on; ``complete``: nothing published is left out.
TRAINED_ON_KEYS = {"data": list, "complete": bool, "source": str}
PUBLISHED_KEYS = {"benchmark": str, "metric": str, "value": (int, float), "variant": str, "source": str}

_constructors: dict[str, Callable[[], "Method"]] = {}


def method(name: str) -> Callable[[Callable[[], "Method"]], Callable[[], "Method"]]:
    """Register the function below as the constructor of a method. A name can be taken once."""

    def register(constructor: Callable[[], "Method"]) -> Callable[[], "Method"]:
        known = _constructors.get(name)
        if known and (known.__module__, known.__qualname__) != (constructor.__module__, constructor.__qualname__):
            raise ZooError(f"method {name!r} is registered twice, in {known.__module__} and {constructor.__module__}")
        _constructors[name] = constructor
        return constructor

    return register


def registry_path() -> Path:
    """registry.yaml beside the packages in a checkout, inside the package when installed from a wheel."""
    root = Path(__file__).resolve().parent
    beside = root.parent / "registry.yaml"
    return beside if beside.is_file() else root / "registry.yaml"


@functools.cache
def entries() -> dict[str, dict[str, Any]]:
    """All of registry.yaml, by method name."""
    import yaml

    return yaml.load(registry_path().read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def list_methods(family: str | None = None) -> list[str]:
    """Names of the registered methods, in the order of registry.yaml. Raises ZooError for an unknown family."""
    if family is not None and family not in FAMILIES:
        raise ZooError(f"unknown family {family!r}.{nearest(family, FAMILIES)}")
    return [name for name, entry in entries().items() if family in (None, entry["family"])]


def entry(name: str) -> dict[str, Any]:
    """The facts on one method. Raises ZooError naming the nearest match."""
    if name not in entries():
        raise ZooError(f"unknown method {name!r}.{nearest(name, list(entries()))}")
    return entries()[name]


def released_row(id: str) -> dict[str, Any]:
    """What is known of a released checkpoint, by the id of its row; empty for another id."""
    return next((row for facts in entries().values() for row in facts["weights"] if row["id"] == id), {})


def get_method(name: str) -> "Method":
    """Import the method's module and construct it as published."""
    module = entry(name)["module"]
    importlib.import_module(f"methods.{module}")
    if name not in _constructors:
        raise ZooError(f'methods/{module}.py registers no {name!r}; put @method("{name}") above its constructor')
    return _constructors[name]()


def schema_errors(name: str, facts: dict[str, Any]) -> list[str]:
    """What is wrong with one entry of registry.yaml; empty when it is complete."""
    errors = [f"{name}: missing key {key!r}" for key in ENTRY_KEYS if key not in facts]
    errors += [
        f"{name}: unknown key {key!r}.{nearest(key, list(ENTRY_KEYS))}"
        for key in facts
        if key not in ENTRY_KEYS and key != "trained_on"
    ]
    for key, kind in ENTRY_KEYS.items():
        if key in facts and not isinstance(facts[key], kind):
            errors.append(f"{name}: {key} must be a {kind.__name__}, not {facts[key]!r}")
    if facts.get("family") not in FAMILIES:
        errors.append(f"{name}: unknown family {facts.get('family')!r}")
    errors += [f"{name}: unknown capability {c!r}" for c in facts.get("capabilities", []) if c not in CAPABILITIES]
    errors += [
        f"{name}: weights.form {row['form']!r} is none of {', '.join(WEIGHT_FORMS)}"
        for row in facts.get("weights", [])
        if row.get("form", WEIGHT_FORMS[0]) not in WEIGHT_FORMS
    ]
    trained_on = facts.get("trained_on")
    if trained_on is not None and {key: type(value) for key, value in trained_on.items()} != TRAINED_ON_KEYS:
        errors.append(f"{name}: trained_on must have data (a list), complete (true or false) and source")
    for key, needed, optional in (
        ("weights", WEIGHT_KEYS, OPTIONAL_WEIGHT_KEYS),
        ("published", PUBLISHED_KEYS, {}),
    ):
        allowed = needed | optional
        for row in facts.get(key, []):
            errors += [f"{name}: {key} entry {row} lacks {k!r}" for k in needed if k not in row]
            errors += [f"{name}: {key} entry has unknown key {k!r}" for k in row if k not in allowed]
            errors += [
                f"{name}: {key}.{k} must be a {allowed[k]}, not {value!r}"
                for k, value in row.items()
                if k in allowed and not isinstance(value, allowed[k])
            ]
    return errors
