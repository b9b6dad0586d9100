"""Animated emoji as short clips with names: OpenMoji's table tells what the code points of a file's name mean."""

import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from zoo.errors import ZooError
from zoo.packaged.archives import members, read_member
from zoo.packaged.pictures import write_index

# What is kept of a clip: frames at equal distances, enough for every method's sampling in the small settings.
NUM_FRAMES, SIDE = 16, 128
TABLE = "data/openmoji.json"
# The mark of a coloured presentation; the two packages differ in whether they write it.
_PRESENTATION = "FE0F"


def convert(files: Sequence[Path], out: Path) -> None:
    """A folder of frames for each clip that moves and has a name; variants that differ in skin tone are one group."""
    clips, table = files
    names = {_key(entry["hexcode"]): entry for entry in json.loads(read_member(table, TABLE))}
    rows: list[dict[str, str]] = []
    left_out: list[dict[str, str]] = []
    for path, read in members(clips):
        if not path.endswith(".webp"):
            continue
        entry = names.get(_key(PurePosixPath(path).stem))
        if entry is None:
            left_out.append({"source": path, "problem": "no name"})
            continue
        with Image.open(io.BytesIO(read())) as image:
            count = getattr(image, "n_frames", 1)
            if count < 2:
                left_out.append({"source": path, "problem": "one frame"})
                continue
            folder = out / "clips" / f"{len(rows):04d}"
            folder.mkdir(parents=True)
            for number in range(NUM_FRAMES):
                image.seek(number * count // NUM_FRAMES)
                frame = image.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                white = Image.new("RGBA", frame.size, "white")
                Image.alpha_composite(white, frame).convert("RGB").save(folder / f"{number:02d}.png")
        # "woman dancing: light skin tone" is called by what stands before the colon.
        caption = entry["annotation"].partition(":")[0]
        rows.append({"file": f"clips/{folder.name}", "caption": caption, "kind": entry["group"], "source": path})
    if not rows:
        raise ZooError(f"{clips}: no animated clip with a name in it; use the version that zoo assets names")
    write_index(rows, left_out, out)


def _key(code_points: str) -> str:
    return "-".join(part for part in code_points.upper().split("-") if part != _PRESENTATION)
