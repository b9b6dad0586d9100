"""Layouts: how a family of released checkpoints names its weights, and how its config becomes a method.

The canonical names are those of the state dict of ``zoo.model.VLM``: ``encoder.model.*``, ``connector.*``,
``language_model.model.*``. A layout renames prefixes, so conversion keeps every value bit for bit.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from zoo.definition import Method
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.model import VLM

Direction = Literal["to_canonical", "from_canonical"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Keys that start with ``source`` start with ``target`` instead.

    ``beside``: the rule only holds where some key starts with this (one linear layer and the first of several are named
    differently in some checkpoints).
    """

    source: str
    target: str
    beside: str = ""


Rules = tuple[Rule, ...] | Callable[[Collection[str]], tuple[Rule, ...]]


def both_ways(names: Iterable[tuple[str, str]]) -> dict[str, tuple[Rule, ...]]:
    """The rules of a layout that spells each name in one way, from (theirs, ours): ``Layout(**both_ways(NAMES))``."""
    names = tuple(names)
    return {
        "to_canonical": tuple(Rule(theirs, ours) for theirs, ours in names),
        "from_canonical": tuple(Rule(ours, theirs) for theirs, ours in names),
    }


def for_layers(
    theirs: str, ours: str, names: Iterable[tuple[str, str]], num_layers: int
) -> tuple[tuple[str, str], ...]:
    """(theirs, ours) of every layer, from the two prefixes before its number and the names behind it."""
    names = tuple(names)
    return tuple(
        (f"{theirs}{number}.{their_name}", f"{ours}{number}.{our_name}")
        for number in range(num_layers)
        for their_name, our_name in names
    )


def _nothing(config: Mapping[str, Any]) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of naming weights. Of the rules of a direction, the first that fits a key counts.

    Args:
        name: as in registry.yaml.
        matches: (config.json, keys of the weights) -> whether this is the checkpoint's layout. Looks at nothing else.
        method_from_config: (config.json, folder of the checkpoint) -> the method with the checkpoint's architecture.
        to_canonical: accepts every spelling that is in circulation. Rules, or a function of all keys that makes them.
        from_canonical: writes one of them.
        constants: suffixes of keys that hold what the classes compute by themselves; left out.
        zero_keys: config.json -> canonical keys that the checkpoint leaves out because they are zero.
        config_from_weights: (weights by their names in the file) -> what stands for config.json, where there is none.
        unpack: (weights by their names in the file) -> the same weights by names that the rules know, where a spelling
            in circulation parts or joins tensors.
        fit: (canonical weights, model on its base, config.json) -> the weights as the model has them.
        partial_language_model: the checkpoint holds rows of a language model, or changes to it; the caller names the
            base.
        on_base: without a config.json the checkpoint belongs on one of this layout, which the caller names: its are
            config.json, tokenizer and whatever the file lacks of the language model.
    """

    name: str
    matches: Callable[[Mapping[str, Any], Collection[str]], bool]
    method_from_config: Callable[[Mapping[str, Any], Path], Method]
    to_canonical: "Rules"
    from_canonical: "Rules"
    constants: tuple[str, ...] = ()
    zero_keys: Callable[[Mapping[str, Any]], Collection[str]] = _nothing
    config_from_weights: Callable[[Mapping[str, Tensor]], dict[str, Any]] | None = None
    unpack: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    fit: "Callable[[Mapping[str, Tensor], VLM, Mapping[str, Any]], dict[str, Tensor]] | None" = None
    partial_language_model: bool = False
    on_base: "Layout | None" = None

    def rename(self, keys: Iterable[str], direction: Direction) -> dict[str, str]:
        """Old key -> new key, constants left out.

        Raises:
            ZooError: a key that no rule fits, or two keys that become one.
        """
        keys = list(keys)
        rules = getattr(self, direction)
        rules = [
            rule
            for rule in (rules(keys) if callable(rules) else rules)
            if not rule.beside or any(key.startswith(rule.beside) for key in keys)
        ]
        sources = re.compile("|".join(f"({re.escape(rule.source)})" for rule in rules))
        renamed: dict[str, str] = {}
        old_keys: dict[str, str] = {}
        for key in keys:
            if self.constants and key.endswith(self.constants):
                continue
            # One expression of all sources: a published layout has hundreds of rules, and a model thousands of keys.
            found = sources.match(key)
            if found is None:
                raise ZooError(f"layout {self.name} has no place for key {key!r}; remove it or use another layout")
            rule = rules[found.lastindex - 1]
            new = rule.target + key.removeprefix(rule.source)
            if new in old_keys:
                raise ZooError(
                    f"layout {self.name}: {old_keys[new]!r} and {key!r} are two spellings of the same weight; keep one"
                )
            renamed[key], old_keys[new] = new, key
        return renamed


_layouts: dict[str, Layout] = {}


def register_layout(layout: Layout) -> Layout:
    """Make a layout known by its name."""
    assert layout.name not in _layouts, f"two layouts named {layout.name}"
    _layouts[layout.name] = layout
    return layout


def get_layout(name: str) -> Layout:
    """A layout by name. Raises ZooError naming the nearest match."""
    if name not in _layouts:
        raise ZooError(f"unknown layout {name!r}.{nearest(name, list(_layouts))}")
    return _layouts[name]


def detect(config: Mapping[str, Any], keys: Collection[str], *, where: str = "checkpoint") -> Layout:
    """The layout of a checkpoint. Raises ZooError, naming ``where``, unless exactly one fits."""
    found = [layout for layout in _layouts.values() if layout.matches(config, keys)]
    if len(found) != 1:
        which = (
            f"fits {' and '.join(x.name for x in found)}" if found else f"has none of the layouts {', '.join(_layouts)}"
        )
        raise ZooError(
            f"{where} {which} (model_type {config.get('model_type')!r}, first key {min(keys, default='')!r}); "
            "give a checkpoint of a method that registry.yaml lists weights for"
        )
    return found[0]


def convert(state_dict: Mapping[str, Tensor], layout: Layout | str, direction: Direction) -> dict[str, Tensor]:
    """Rename a checkpoint's weights to the canonical names or back. The tensors are the same objects, except those of
    a spelling that parts or joins them.

    Raises:
        ZooError: unknown layout or direction, a key without a place, two keys that become one.
    """
    layout = get_layout(layout) if isinstance(layout, str) else layout
    if direction not in ("to_canonical", "from_canonical"):
        raise ZooError(f"unknown direction {direction!r}.{nearest(direction, ('to_canonical', 'from_canonical'))}")
    if direction == "to_canonical" and layout.unpack is not None:
        state_dict = layout.unpack(state_dict)
    return {new: state_dict[old] for old, new in layout.rename(state_dict, direction).items()}
