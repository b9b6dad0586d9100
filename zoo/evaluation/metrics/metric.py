"""What a metric is: a named scoring rule with its source, the files it reads, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import load

Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a scoring rule found.

    ``values``: the figures over the whole set, the headline first. ``items``: the score of every item by its id, where
    the figure is a mean of such scores (for intervals and paired comparisons). ``breakdown``: figures by group, as in
    ``{"answer_type": {"yes/no": 80.1}}``. ``notes``: what has to be said beside the number.
    """

    values: Numbers
    items: Numbers = field(default_factory=dict)
    breakdown: Mapping[str, Numbers] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    num_items: int | None = None


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """An outcome with the name of the rule that found it, which every reported number must carry.

    ``unit`` is that of ``values`` and ``breakdown``: percent, fraction (0 to 1) or points, as the scorer that the rule
    follows prints it. ``items`` are fractions.
    """

    metric: str
    unit: str
    source: str
    values: Numbers
    items: Numbers
    breakdown: Mapping[str, Numbers]
    notes: tuple[str, ...]
    num_items: int

    @property
    def headline(self) -> str:
        """The name of the first of ``values``."""
        return next(iter(self.values))

    @property
    def value(self) -> float:
        """The headline figure."""
        return self.values[self.headline]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every field, ``headline`` and ``value`` included."""
        return {"metric": self.metric, "value": self.value, "headline": self.headline} | asdict(self)

    def render(self) -> str:
        """Text for a terminal."""
        lines = [f"{self.metric}  {self.num_items} items, {self.unit}"]
        width = max(len(name) for group in (self.values, *self.breakdown.values()) for name in group) + 2
        lines += [f"  {name:<{width}} {_shown(value)}" for name, value in self.values.items()]
        for title, group in self.breakdown.items():
            lines.append(f"  by {title.replace('_', ' ')}:")
            lines += [f"    {name:<{width}} {_shown(value)}" for name, value in group.items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes), f"  source: {self.source}"])


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A scoring rule by name.

    ``predictions`` and ``references`` say in words what the two inputs hold; ``source`` names the paper or the file
    whose numbers the rule reproduces. Without ``needs_references`` the predictions carry the right answers themselves.
    """

    name: str
    variant: str
    summary: str
    source: str
    unit: str
    predictions: str
    references: str
    compute: Callable[[Any, Any], Outcome]
    needs_references: bool = True

    @property
    def full_name(self) -> str:
        """``name:variant``, what results carry."""
        return f"{self.name}:{self.variant}"

    def __call__(self, predictions: Any, references: Any = None) -> MetricResult:
        """Score.

        Args:
            predictions: a path, or what the file holds (``json.load`` of it, or dictionaries built alike).
            references: the same; may be left out where ``needs_references`` is False.

        Raises:
            ZooError: unreadable or malformed input, no items, predictions missing, doubled or unknown (their ids are
                named), tools that the rule needs are not installed.
        """
        if references is None and self.needs_references:
            raise ZooError(f"{self.full_name} needs references: {self.references}")
        outcome = self.compute(load(predictions), None if references is None else load(references))
        return MetricResult(
            metric=self.full_name,
            unit=self.unit,
            source=self.source,
            values=outcome.values,
            items=outcome.items,
            breakdown=outcome.breakdown,
            notes=outcome.notes,
            num_items=len(outcome.items) if outcome.num_items is None else outcome.num_items,
        )

    def render(self) -> str:
        """Everything that is said about the metric, for a terminal."""
        return (
            f"{self.full_name}: {self.summary}\n  source:      {self.source}\n  unit:        {self.unit}\n"
            f"  predictions: {self.predictions}\n  references:  {self.references}"
        )

    def describe(self) -> dict[str, Any]:
        """Every field but the function."""
        fields = ("name", "variant", "summary", "source", "unit", "predictions", "references", "needs_references")
        return {"metric": self.full_name} | {name: getattr(self, name) for name in fields}
