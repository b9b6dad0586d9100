"""From an encoder's id to a place and an architecture, without reading weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from zoo.encoders.config import EncoderConfig
from zoo.encoders.families import FAMILIES, Family, family_of
from zoo.encoders.known import KNOWN_ENCODERS
from zoo.errors import ZooError, nearest
from zoo.paths import quiet
from zoo.paths import resolve as resolve_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """``location`` is a folder or a hub id, None for random weights."""

    location: str | None
    family: Family
    architecture: PreTrainedConfig


def resolve(config: EncoderConfig) -> Source:
    """Find what ``config`` refers to.

    Only a hub id that is not a known name, and a folder, need their ``config.json``.

    Raises:
        ZooError: naming the id or the key, when it does not exist, cannot be reached or is no vision encoder.
    """
    if config.id and config.architecture:
        raise ZooError(f"encoder: id {config.id!r} and architecture are both given; leave one of them empty")
    if config.id in KNOWN_ENCODERS:
        known = KNOWN_ENCODERS[config.id]
        family, architecture = _from_fields(dict(known.architecture))
        # The short name or the hub id may be mapped to a folder.
        location = resolve_id(config.id)
        location = resolve_id(known.id) if location == config.id else location
        return Source(location=location, family=family, architecture=architecture)
    if not config.id:
        family, architecture = _from_fields(dict(config.architecture))
        return Source(location=None, family=family, architecture=architecture)
    location = _locate(config.id)
    try:
        with quiet():
            fields, _ = PreTrainedConfig.get_config_dict(location, revision=config.revision)
            if "model_type" not in fields:
                raise unreachable(config, location, OSError("no config.json with a model_type"))
            family = family_of(fields["model_type"], where=f"encoder {config.id!r}")
            architecture = family.config_class.from_pretrained(location, revision=config.revision)
    except (OSError, StrictDataclassError) as error:
        raise unreachable(config, location, error) from error
    return Source(location=location, family=family, architecture=architecture)


def unreachable(config: EncoderConfig, location: str, error: Exception) -> ZooError:
    """The one line for an id whose files cannot be read."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if Path(location).is_dir():
        fix = "give a folder with config.json and model.safetensors as save_pretrained writes it"
    else:
        revision = f" --revision {config.revision}" if config.revision else ""
        fix = f"check the name and the connection, run `hf download {location}{revision}` first, or give a local folder"
    return ZooError(f"encoder {config.id!r}: cannot read {location} ({reason}); {fix}")


def _locate(name: str) -> str:
    resolved = resolve_id(name)
    if resolved != name:
        return resolved
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")):
        raise ZooError(f"encoder {name!r}: no such folder; give a folder with config.json and model.safetensors")
    if name.count("/") != 1:
        hint = nearest(name, set(KNOWN_ENCODERS))
        raise ZooError(f"encoder {name!r} is no known name, hub id (owner/name) or folder.{hint}")
    return name


def _from_fields(fields: dict[str, Any]) -> tuple[Family, PreTrainedConfig]:
    own_types = [family.model_types[0] for family in FAMILIES]
    model_type = fields.pop("model_type", "")
    if model_type not in own_types:
        raise ZooError(f"encoder.architecture: model_type {model_type!r} is unknown.{nearest(model_type, own_types)}")
    family = family_of(model_type, where="encoder.architecture")
    # transformers stores keys that it does not know without a word; a typo would silently build another model.
    known = set(family.config_class().to_dict())
    for key in fields:
        if key not in known:
            raise ZooError(f"encoder.architecture: unknown key {key!r} for {model_type}.{nearest(key, known)}")
    try:
        return family, family.config_class(**fields)
    except StrictDataclassError as error:
        raise ZooError(f"encoder.architecture: {' '.join(str(error).split())}") from error
