"""Tux Paint's stamps and Open Clip Art as small cut-outs with an index: caption, kind and where each comes from."""

import io
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from PIL import Image

from zoo.errors import ZooError
from zoo.packaged.archives import Reader, members
from zoo.packaged.taxonomy import (
    CLIP_ART_FOLDERS,
    CLIP_ART_FOLDERS_LEFT_OUT,
    CLIP_ART_KINDS,
    STAMP_FOLDERS_LEFT_OUT,
    STAMP_KINDS,
    is_below,
    kind_of,
)

INDEX_FILE = "index.jsonl"
LEFT_OUT_FILE = "left_out.jsonl"
# Larger than what the settings of small machines show, small enough to be decoded in milliseconds.
LONGEST_SIDE = 224
# Some files of Open Clip Art have over 600 million pixels.
MAX_PIXELS = 4_000_000
STAMPS_ROOT = "usr/share/tuxpaint/stamps/"
PNG_ROOT, SVG_ROOT = "usr/share/openclipart/png/", "usr/share/openclipart/svg/"
MAX_WORDS = 6
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_CREATIVE_COMMONS = "{http://web.resource.org/cc/}"


def convert_stamps(files: Sequence[Path], out: Path) -> None:
    """The caption is the first line of the text file beside a picture: one English sentence."""
    captions: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    for name, read in members(files[0]):
        if name.endswith("/copyright"):
            (out / "COPYRIGHT").write_bytes(read())
        path = PurePosixPath(name.removeprefix(STAMPS_ROOT))
        if not name.startswith(STAMPS_ROOT) or is_below(str(path.parent), STAMP_FOLDERS_LEFT_OUT):
            continue
        if path.suffix == ".txt":
            captions[str(path.with_suffix(""))] = read().decode("utf-8-sig").partition("\n")[0].strip()
        elif path.suffix == ".png" and not path.stem.endswith(("_mirror", "_flip", "_mirror_flip")):
            pictures[str(path.with_suffix(""))] = read()
    found = ((name, captions.get(name, ""), content) for name, content in sorted(pictures.items()))
    _write(found, STAMP_KINDS, out, files[0])


def convert_clip_art(files: Sequence[Path], out: Path) -> None:
    """The caption is the title, or two keywords where none backs the title (a name of its author, another language)."""
    drawings, texts = files
    captions = {}
    for name, read in _clip_art(texts, SVG_ROOT, ".svg"):
        captions[name] = clip_art_caption(read())
    # One at a time: the archive may hold what must not be decoded.
    found = ((name, captions.get(name, ""), read()) for name, read in _clip_art(drawings, PNG_ROOT, ".png"))
    _write(found, CLIP_ART_KINDS, out, drawings)


def _clip_art(file: Path, root: str, suffix: str) -> Iterable[tuple[str, Reader]]:
    for name, read in members(file):
        path = PurePosixPath(name.removeprefix(root))
        folder = str(path.parent)
        is_wanted = is_below(folder, CLIP_ART_FOLDERS) and not is_below(folder, CLIP_ART_FOLDERS_LEFT_OUT)
        if name.startswith(root) and path.suffix == suffix and is_wanted:
            yield str(path.with_suffix("")), read


def clip_art_caption(svg: bytes) -> str:
    """A caption from the metadata of a drawing; empty where it has none that reads like one."""
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError:
        return ""
    work = root.find(f".//{_CREATIVE_COMMONS}Work")
    if work is None:
        return ""
    title = _words(work.findtext(f"{_DUBLIN_CORE}title") or "")
    keywords = [_words(entry.text or "") for entry in work.iterfind(f"{_DUBLIN_CORE}subject/{_RDF}Bag/{_RDF}li")]
    agents = [_words(entry.text or "") for entry in work.iterfind(f".//{_CREATIVE_COMMONS}Agent/{_DUBLIN_CORE}title")]
    authors = {word for agent in agents for word in agent}
    keywords = [words for words in keywords if words and not authors & set(words)]
    known = {word for words in keywords for word in words}
    if title and len(title) <= MAX_WORDS and any(word in known or f"{word}s" in known for word in title):
        return " ".join(word for word in title if word not in authors)
    short = [" ".join(words) for words in keywords if len(words) <= 2]
    return ", ".join(short[:2])


def _words(text: str) -> list[str]:
    """Lower-case words; none where the text is not plain English letters (HASH(0x...), other scripts)."""
    plain = re.sub(r"[\d_\-.,]+", " ", text).strip().lower()
    return plain.split() if re.fullmatch(r"[a-z' ]+", plain) else []


def _write(found: Iterable[tuple[str, str, bytes]], kinds: dict[str, str], out: Path, archive: Path) -> None:
    (out / "images").mkdir()
    rows: list[dict[str, str]] = []
    left_out: list[dict[str, str]] = []
    for name, caption, content in found:
        image, problem = cut_out(content) if caption else (None, "no caption")
        if image is None:
            left_out.append({"source": name, "problem": problem})
            continue
        file = f"images/{len(rows):05d}.png"
        image.save(out / file)
        kind = kind_of(str(PurePosixPath(name).parent), kinds)
        rows.append({"file": file, "caption": caption, "kind": kind, "source": name})
    if not rows:
        raise ZooError(f"{archive}: no picture with a caption in it; use the version that zoo assets names")
    write_index(rows, left_out, out)


def write_index(rows: list[dict[str, str]], left_out: list[dict[str, str]], out: Path) -> None:
    """What was converted, and beside it what was not and why."""
    for file, entries in ((INDEX_FILE, rows), (LEFT_OUT_FILE, left_out)):
        (out / file).write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def cut_out(content: bytes) -> tuple[Image.Image | None, str]:
    """A picture with alpha, cropped to what can be seen and shrunk; or None and what is wrong with it."""
    try:
        # Pillow reads the header only; a size that cannot be decoded is never decoded.
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            opened = Image.open(io.BytesIO(content))
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                return None, f"{image.width} x {image.height} pixels"
            image = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return None, " ".join(str(error).split())
    seen = image.getchannel("A").getbbox()
    if seen is None:
        return None, "nothing to be seen"
    image = image.crop(seen)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return (image, "") if min(image.size) > 1 else (None, "a line")
