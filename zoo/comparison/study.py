"""A study: which variants of which methods are compared under one setting, as a YAML file beside its results.

question: resampler, Q-Former or MLP at the same number of tokens?
setting: scenes-small
seeds: [0, 1, 2]
variants:
  llava-1.5: {}
  llava-1.5 resampler: {method: llava-1.5, overrides: ["connector={kind: resampler, num_latents: 9}"]}
"""

from dataclasses import dataclass, field
from pathlib import Path

from zoo.config import from_dict, read_yaml
from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method, by default the one of the variant's own name, with ``key=value`` overrides of its own."""

    method: str = ""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """``variants`` maps labels, as they stand in the tables, to methods; ``baseline`` is one of them."""

    question: str = ""
    setting: str
    seeds: tuple[int, ...] = (0, 1, 2)
    baseline: str = "blind"
    variants: dict[str, Variant] = field(default_factory=dict)


def read_study(path: str | Path) -> Study:
    """Raises ZooError for a missing file, an unknown key, or a study without variants."""
    study = from_dict(Study, read_yaml(Path(path)))
    if not study.variants:
        raise ZooError(f"{path} has no variants; name the methods to compare under variants:")
    for label in study.variants:
        if "/" in label or label.startswith("."):
            raise ZooError(f"{path}: variant {label!r} becomes a folder's name; leave out slashes and leading dots")
    return study
