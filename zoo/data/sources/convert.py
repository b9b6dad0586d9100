"""From a decoded JSON value to a sample, whichever record format it is in."""

from typing import Any

from zoo.data.sample import Sample
from zoo.data.sources.chat import from_chat
from zoo.data.sources.llava import from_llava
from zoo.data.sources.records import Origin, described


def to_sample(record: Any, origin: Origin) -> Sample:
    """The sample of a LLaVA (``conversations``) or chat record (``messages``); RecordError for anything else."""
    if not isinstance(record, dict):
        raise origin.error(f"the record is {described(record)}; use an object with 'conversations' or 'messages'")
    if "conversations" in record:
        return from_llava(record, origin)
    if "messages" in record:
        return from_chat(record, origin)
    keys = ", ".join(sorted(map(str, record))[:10]) or "none"
    raise origin.error(f"the record has neither 'conversations' (LLaVA) nor 'messages' (chat); its keys: {keys}")
