"""Which of several images a caption belongs to, by the loss of its tokens beside each: retrieval without generation.

The caption is the same beside every image, so what makes it likely or unlikely in itself cancels out: a model that does
not look at images is at chance, whatever it knows of captions.
"""

from collections.abc import Sequence
from dataclasses import replace

from zoo.data.sample import Message, Sample
from zoo.evaluation.items import Item

# Losses a token that agree so far are the same: sums in another order differ in the last digits.
DIGITS = 5


def beside_each_medium(item: Item) -> list[Sample]:
    """The question answered with the reference, once beside its own medium and then beside each of the others."""
    messages = (*item.sample.messages, Message(role="assistant", content=item.references[0]))
    media = (*item.sample.media, *item.other_media)
    return [replace(item.sample, messages=messages, media=(medium,)) for medium in media]


def chosen(losses: Sequence[float]) -> str:
    """The numbers of the media with the lowest loss, ``"0"`` or ``"0,3"``."""
    rounded = [round(loss, DIGITS) for loss in losses]
    return ",".join(str(number) for number, loss in enumerate(rounded) if loss == min(rounded))
