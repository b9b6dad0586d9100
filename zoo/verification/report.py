"""What a verification found: the largest difference of every output, and what was not compared."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.verification.case import Case, Probe

DEFAULT_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of one output of a probe: the largest absolute difference, and how large it may be.

    For ids and texts ``largest`` counts the unequal ones. NaN and ``inf`` stand for what cannot be compared, with the
    reason in ``note``.
    """

    probe: str
    output: str
    largest: float
    limit: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.largest <= self.limit


class Report:
    """Differences of a case, as they come.

    Args:
        tolerance: None is 1e-4, or what the reference itself varies by where that is more.
    """

    def __init__(self, case: Case, tolerance: float | None = None) -> None:
        self.case = case
        self.tolerance = tolerance
        self.layout = ""
        self.method = ""
        self.differences: list[Difference] = []
        self.left_out: list[str] = []
        self._compared: set[tuple[str, str]] = set()

    @property
    def passed(self) -> bool:
        """At least one comparison, and all of them within their limits."""
        return bool(self.differences) and all(difference.passed for difference in self.differences)

    @property
    def not_compared(self) -> list[str]:
        """Stored outputs that nothing was compared with, as PROBE/NAME, and what was left out otherwise."""
        stored = [(probe.name, output) for probe in self.case.probes.values() for output in probe.outputs]
        missed = [f"{probe}/{output}" for probe, output in stored if (probe, output) not in self._compared]
        return missed + self.left_out

    def limit(self, probe: Probe | None, output: str) -> float:
        if self.tolerance is not None:
            return self.tolerance
        return max(DEFAULT_TOLERANCE, probe.own_noise(output) if probe is not None else 0.0)

    def compare(
        self,
        probe: str,
        output: str,
        ours: Tensor,
        *,
        where: Tensor | None = None,
        media: Sequence[int] | None = None,
    ) -> None:
        """Compare with a stored output of this name, if there is one.

        The stored tensor may group the rows of ours differently (media by tokens, or all in one), not order them so.

        Args:
            where: the positions (leading axes) that count.
            media: the entries (first axis) of the stored tensor that ours has.
        """
        stored = self.case.probes[probe].stored_name(output)
        theirs = self.case.probes[probe].outputs.get(stored)
        if theirs is None or (probe, stored) in self._compared:
            return
        self._compared.add((probe, stored))
        ours = ours.detach().cpu()
        theirs = theirs if media is None else theirs[list(media)]
        if where is not None:
            where = where.cpu()
            if ours.shape[: where.ndim] != where.shape or theirs.shape[: where.ndim] != where.shape:
                self._refuse(probe, output, f"shape {tuple(ours.shape)}, the reference has {tuple(theirs.shape)}")
                return
            ours, theirs = ours[where], theirs[where]
        rows_agree = theirs.ndim < 2 or ours.shape[-1] == theirs.shape[-1]
        if ours.numel() != theirs.numel() or not rows_agree:
            self._refuse(probe, output, f"shape {tuple(ours.shape)}, the reference has {tuple(theirs.shape)}")
            return
        exact = not theirs.dtype.is_floating_point
        largest, limit = _distance(ours.flatten(), theirs.flatten(), exact), 0.0
        if not exact:
            limit = self.limit(self.case.probes[probe], output)
            if self.tolerance is None and theirs.element_size() < ours.element_size() and theirs.numel():
                # Stored in half precision: no closer than its last place.
                limit = max(limit, torch.finfo(theirs.dtype).eps * float(theirs.abs().max()))
        self.add(Difference(probe=probe, output=output, largest=largest, limit=limit))

    def compare_tokens(
        self, probe: str, output: str, ours: Sequence[Sequence[int]], theirs: Sequence[list[int]]
    ) -> None:
        """Rows of ids, which have to be equal."""
        self._compared |= {(probe, name) for name in (output, "sequences")}
        unequal, note = 0, ""
        for row, (mine, wanted) in enumerate(zip(ours, theirs, strict=True)):
            if list(mine) != wanted:
                unequal += 1
                note = note or f"row {row}: {list(mine)} for {wanted}"
        self.add(Difference(probe=probe, output=output, largest=float(unequal), limit=0.0, note=note))

    def compare_values(self, probe: str, output: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        """Nested lists of texts and numbers; texts, lengths and integers have to be equal."""
        note, largest = "", 0.0
        for mine, wanted in zip(ours, theirs, strict=True):
            distance = max(_leaf_distances(mine, wanted), default=0.0)
            if distance > largest:
                largest, note = distance, f"{mine!r} for {wanted!r}"
        limit = self.limit(None, output)
        self.add(
            Difference(probe=probe, output=output, largest=largest, limit=limit, note=note if largest > limit else "")
        )

    def add(self, difference: Difference) -> None:
        self.differences.append(difference)

    def failed(self, probe: str, reason: str) -> None:
        """A probe that could not be run."""
        self._refuse(probe, "run", " ".join(reason.split()))

    def _refuse(self, probe: str, output: str, note: str) -> None:
        self.add(Difference(probe=probe, output=output, largest=math.inf, limit=0.0, note=note))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that JSON has no word for are null."""
        return {
            "case": self.case.name,
            "reference": self.case.reference,
            "layout": self.layout,
            "method": self.method,
            "passed": self.passed,
            "differences": [
                {
                    "probe": difference.probe,
                    "output": difference.output,
                    "largest": difference.largest if math.isfinite(difference.largest) else None,
                    "limit": difference.limit,
                    "passed": difference.passed,
                    "note": difference.note,
                }
                for difference in self.differences
            ],
            "not_compared": self.not_compared,
        }

    def render(self) -> str:
        read_as = ", ".join(x for x in (self.layout and f"layout {self.layout}", self.method) if x)
        lines = [f"{self.case.name}: {self.case.reference}" + (f" ({read_as})" if read_as else "")]
        width = max((len(f"{d.probe} {d.output}") for d in self.differences), default=0)
        for d in self.differences:
            verdict = "ok" if d.passed else "BEYOND"
            line = f"  {f'{d.probe} {d.output}':<{width}}  {d.largest:>8.2g}  limit {d.limit:<7.2g} {verdict}"
            lines.append(f"{line}  {d.note}".rstrip())
        if self.not_compared:
            lines.append(f"  not compared: {', '.join(self.not_compared)}")
        lines.append("  equal within the limits" if self.passed else "  NOT equal within the limits")
        return "\n".join(lines)


def _distance(ours: Tensor, theirs: Tensor, exact: bool) -> float:
    if not ours.numel():
        return 0.0
    if exact:
        return float((ours != theirs).sum())
    return float((ours.double() - theirs.double()).abs().max())


def _leaf_distances(ours: Any, theirs: Any) -> Iterator[float]:
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for mine, wanted in zip(ours, theirs):
            yield from _leaf_distances(mine, wanted)
    elif isinstance(ours, float) and isinstance(theirs, int | float):
        yield abs(ours - theirs)
    else:
        yield 0.0 if ours == theirs else math.inf
