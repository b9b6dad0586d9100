"""What an item asks of a method, and what happens where the method was not made for it.

A method declares in registry.yaml what it handles natively. For the rest there is a documented fallback, marked in
every table, or none: then the table has a dash.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zoo.data.sample import BOX_PLACEHOLDER
from zoo.errors import ZooError
from zoo.evaluation.items import Item
from zoo.registry import entries

FALLBACKS = {
    "image": "an image is given as a video of one frame",
    "multi_image": "several images stand in one prompt, which the method was not published with",
    "video": "a video is given as its frames, one image after another",
    "region_in": "a box in the question is written as numerals",
    "box_out": "a box in the answer is written and read as numerals",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """``fallbacks``: the capabilities that are replaced; ``missing``: those without a sensible fallback."""

    fallbacks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def needs(item: Item) -> frozenset[str]:
    """The capabilities that an item asks for: what its media are, boxes in the question, a box as the answer."""
    kinds = [medium.kind for medium in item.sample.media]
    needed = set(kinds)
    if item.sample.info.get("few_shot", {}).get("shots"):
        needed.add("few_shot")
    elif kinds.count("image") > 1:
        needed.add("multi_image")
    if any(BOX_PLACEHOLDER in message.content for message in item.sample.messages if message.role == "user"):
        needed.add("region_in")
    if item.answers_with_box:
        needed.add("box_out")
    return frozenset(needed)


def support(method: str, needed: Iterable[str]) -> Support:
    """How a method of the registry meets what is asked. A method without any capability is a baseline: all is native.

    Several images in a prompt do for demonstrations, and a video method's frames for an image.
    """
    declared = set(entries().get(method, {}).get("capabilities", ()))
    if not declared:
        return Support()
    if "multi_image" in declared:
        declared.add("few_shot")
    lacking = sorted(set(needed) - declared)
    return Support(
        fallbacks=tuple(need for need in lacking if need in FALLBACKS),
        missing=tuple(need for need in lacking if need not in FALLBACKS),
    )


def support_of_task(method: str, items: Sequence[Item]) -> Support:
    """The same for all items of a task together."""
    return support(method, frozenset().union(*(needs(item) for item in items)))


def refuse_missing(method: str, task: str, found: Support) -> None:
    """Raises ZooError where a task asks for something that a method cannot do at all."""
    if found.missing:
        raise ZooError(
            f"{method} cannot do task {task!r}: it has no {' or '.join(found.missing)} and there is no sensible "
            "fallback; choose another method or task"
        )
