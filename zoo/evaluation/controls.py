"""Baselines that see less: the most frequent training answer, and the same model on another item's image.

With the blind method (the language model alone, trained alike) and the chance level they say how much of a score comes
from looking. Prior: Antol et al., "VQA" (2015), section 4, "per Q-type prior".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.data.sample import PLACEHOLDER_PATTERN
from zoo.errors import ZooError
from zoo.evaluation.items import Item
from zoo.evaluation.metrics import score
from zoo.evaluation.statistics import estimate
from zoo.evaluation.summary import Comparison
from zoo.evaluation.table import SHUFFLED

CONTROLS = (SHUFFLED,)
NUM_TYPE_WORDS = 2


def shuffled(items: Sequence[Item], seed: int = 0) -> list[Item]:
    """The same questions in the same order, each with the media of another cluster; seeded, nothing drawn twice.

    Media go to an item with as many of the same kinds. Questions on one image stay together on one other image.

    Raises ZooError where a kind of media has a single cluster.
    """
    kinds: dict[tuple[str, ...], dict[str, Item]] = defaultdict(dict)
    for item in items:
        shape = tuple(medium.kind for medium in item.sample.media)
        kinds[shape].setdefault(item.sample.group or item.sample.id, item)
    given: dict[tuple[tuple[str, ...], str], Item] = {}
    for shape, owners in kinds.items():
        names = list(owners)
        if shape and len(names) < 2:
            raise ZooError(f"item {names[0]!r} is the only one with {', '.join(shape)}; there is no other to show")
        order = np.random.default_rng(seed).permutation(len(names))
        # One cycle through all of them: no cluster keeps its own.
        for place, at in enumerate(order):
            given[shape, names[at]] = owners[names[order[(place + 1) % len(order)]]]
    moved = []
    for item in items:
        shape = tuple(medium.kind for medium in item.sample.media)
        other = given[shape, item.sample.group or item.sample.id]
        moved.append(replace(item, sample=replace(item.sample, media=other.sample.media)))
    return moved


def question_type(item: Item) -> str:
    """The kind of a question: what the file says (``info["question_type"]``), else its first two words."""
    if stated := item.sample.info.get("question_type"):
        return str(stated)
    text = PLACEHOLDER_PATTERN.sub(" ", item.sample.messages[-1].content)
    return " ".join(re.findall(r"[\w'-]+", text.lower())[:NUM_TYPE_WORDS])


def prior_answers(items: Sequence[Item], training: Sequence[Item]) -> list[str]:
    """For each item the most frequent answer to training questions of its type; of a type never seen, to all of them.

    An answer counts as often as the training references say it; ties go to the alphabet.

    Raises ZooError where no training item has an answer in words.
    """
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    for item in training:
        by_type[question_type(item)].update(item.references)
    total = sum(by_type.values(), Counter())
    if not total:
        raise ZooError("the training items have no answers in words; the prior-answer baseline needs some")

    def most_frequent(counts: Counter[str]) -> str:
        return min(counts, key=lambda answer: (-counts[answer], answer))

    return [most_frequent(by_type.get(question_type(item)) or total) for item in items]


def prior_score(items: Sequence[Item], training: Sequence[Item]) -> float:
    """The score of the prior answers as a fraction, by the metric of the items, whose answers are words."""
    answers = prior_answers(items, training)
    return sum(score(item, answer).value for item, answer in zip(items, answers, strict=True)) / len(items)


def with_controls(
    comparison: Comparison,
    priors: Mapping[str, float | None],
    shuffled_rows: Sequence[Mapping[str, Any]] = (),
) -> Comparison:
    """The comparison with ``prior`` (by task) and ``shuffled`` (rows on shuffled media) beside its results."""
    seen: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    groups: dict[str, str] = {}
    for row in shuffled_rows:
        seen.setdefault((row["method"], row["task"]), {}).setdefault(row["seed"], {})[row["id"]] = row["score"]
        groups[row["id"]] = row.get("group") or row["id"]
    results = {}
    for key, result in comparison.results.items():
        extra = dict(result.extra)
        if priors.get(result.task) is not None:
            extra["prior"] = priors[result.task]
        if key in seen:
            ids = list(next(iter(seen[key].values())))
            values = np.asarray([[scores[item] for item in ids] for scores in seen[key].values()])
            found = estimate(values, [groups[item] for item in ids])
            extra[SHUFFLED] = {"mean": found.mean, "low": found.low, "high": found.high}
        results[key] = replace(result, extra=extra)
    notes = list(comparison.notes)
    if any(priors.get(task) is not None for task in comparison.tasks):
        notes.append("Prior: the most frequent answer to training questions that begin alike, without a model.")
    if seen:
        notes.append("Shuffled: the same model, every question asked about another item's image or video.")
    return replace(comparison, results=results, notes=tuple(notes))
