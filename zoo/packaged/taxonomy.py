"""Kinds of things by the folders of the picture packages: labels that people gave by where they put a file."""

from collections.abc import Mapping

# Longest prefix counts; a folder without an entry has captions only.
STAMP_KINDS: Mapping[str, str] = {
    "animals/birds": "bird",
    "animals/fish": "fish",
    "animals/insects": "insect",
    "animals/mammals": "mammal",
    "clothes/hats": "hat",
    "food/dessert": "dessert",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "hobbies/music": "musical instrument",
    "household/tools": "tool",
    "military/vehicles": "vehicle",
    "plants/flowers": "flower",
    "plants/trees": "tree",
    "town/houses": "house",
    "town/roadsigns": "road sign",
    "vehicles": "vehicle",
}
CLIP_ART_KINDS: Mapping[str, str] = {
    "animals/birds": "bird",
    "animals/bugs": "insect",
    "animals/fish": "fish",
    "animals/mammals": "mammal",
    "buildings/homes": "house",
    "food/desserts": "dessert",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "people/clothing/hats": "hat",
    "plants/flowers": "flower",
    "plants/trees": "tree",
    "recreation/music": "musical instrument",
    "tools": "tool",
    "tools/toys": "",
    "tools/weapons": "",
    "transportation/boating": "vehicle",
    "transportation/roadsigns": "road sign",
    "transportation/vehicles": "vehicle",
}
KINDS = tuple(sorted({kind for kind in (*STAMP_KINDS.values(), *CLIP_ART_KINDS.values()) if kind}))

# Letters, chess pieces and coins are no things to describe.
STAMP_FOLDERS_LEFT_OUT = ("symbols",)
CLIP_ART_FOLDERS = (
    "animals",
    "buildings",
    "computer/hardware",
    "containers",
    "education",
    "electronics",
    "food",
    "people",
    "plants",
    "recreation/holiday",
    "recreation/music",
    "recreation/party",
    "recreation/sports",
    "recreation/toys",
    "science",
    "tools",
    "transportation",
)
CLIP_ART_FOLDERS_LEFT_OUT = (
    "people/clothing/pantyhose",
    "people/smilies",
    "people/stickmen",
    "transportation/aiga-symbols",
)


def is_below(folder: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a folder is one of ``prefixes`` or lies in one."""
    return any(f"{folder}/".startswith(f"{prefix}/") for prefix in prefixes)


def kind_of(folder: str, kinds: Mapping[str, str]) -> str:
    """The kind of the longest prefix that the folder lies in; empty without one."""
    found = [prefix for prefix in kinds if is_below(folder, (prefix,))]
    return kinds[max(found, key=len)] if found else ""
