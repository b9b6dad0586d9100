"""Tiny packages in the registries' own formats, with pictures drawn here."""

import hashlib
import io
import json
import tarfile
import zipfile

from PIL import Image

from zoo.packaged.catalogue import Asset, Package
from zoo.packaged.pictures import PNG_ROOT, STAMPS_ROOT, SVG_ROOT

COLOURS = {
    "bird": (200, 40, 40),
    "fish": (40, 90, 200),
    "insect": (30, 140, 60),
    "house": (150, 100, 40),
    "fruit": (230, 120, 20),
    "tree": (10, 90, 30),
}
STAMP_FOLDERS = {
    "bird": "animals/birds",
    "fish": "animals/fish",
    "insect": "animals/insects/cartoon",
    "house": "town/houses",
    "fruit": "food/fruit",
    "tree": "plants/trees",
}
NUM_STAMPS = 16


def png(colour, size=(40, 30), margin=5):
    """A filled rectangle of this size with nothing around it."""
    image = Image.new("RGBA", (size[0] + 2 * margin, size[1] + 2 * margin), (0, 0, 0, 0))
    image.paste((*colour, 255), (margin, margin, margin + size[0], margin + size[1]))
    return encoded(image)


def encoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, **{"format": "PNG", **options})
    return stream.getvalue()


def tar(files, mode="w:gz", prefix=""):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def deb(name, version, files):
    """deb(5): an ar archive of the format's version, the control files and the data."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <t@t>\nDescription: tiny\n"
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar({"control": control.encode()}, prefix="./"),
        "data.tar.xz": tar(files, "w:xz", "./"),
    }
    content = b"!<arch>\n"
    for part, data in parts.items():
        content += (
            f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return content


def wheel(name, version, files):
    module, stream = name.replace("-", "_"), io.BytesIO()
    about = f"{module}-{version}.dist-info"
    described = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(stream, "w") as archive:
        for path, content in {**files, **described}.items():
            archive.writestr(path, content)
    return stream.getvalue()


def npm(name, version, files):
    described = {"package.json": json.dumps({"name": name, "version": version}).encode()}
    return tar({**described, **files}, prefix="package/")


def stamps():
    files = {"usr/share/doc/stamps/copyright": b"GPL-2"}
    for kind, folder in STAMP_FOLDERS.items():
        for number in range(NUM_STAMPS):
            stem = f"{STAMPS_ROOT}{folder}/{kind}{number}"
            files[f"{stem}.png"] = png(COLOURS[kind], (30 + number, 44 - number))
            files[f"{stem}.txt"] = f"A small {kind} number {number}.\nde.utf8=Klein.\n".encode()
    files[f"{STAMPS_ROOT}animals/birds/bird0_mirror.png"] = png(COLOURS["bird"])
    files[f"{STAMPS_ROOT}animals/birds/broken.png"] = b"no picture"
    files[f"{STAMPS_ROOT}animals/birds/broken.txt"] = b"A broken bird."
    files[f"{STAMPS_ROOT}animals/birds/silent.png"] = png(COLOURS["bird"])
    files[f"{STAMPS_ROOT}symbols/letters/a.png"] = png((0, 0, 0))
    files[f"{STAMPS_ROOT}symbols/letters/a.txt"] = b"The letter A."
    return files


def svg(title, keywords, author="Jane Painter"):
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return f"""<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:cc="http://web.resource.org/cc/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><cc:Work><dc:title>{title}</dc:title>
<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
<dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>
</cc:Work></rdf:RDF></metadata></svg>""".encode()


def clip_art():
    drawings, texts = {}, {}
    for path, content, text in (
        ("animals/birds/parrot", png((10, 200, 10)), svg("Green_parrot 01", ["bird", "parrots"])),
        ("animals/birds/other", png((200, 200, 10)), svg("Uccello", ["Jane Painter", "bird", "yellow"])),
        ("animals/birds/large", encoded(Image.new("1", (2500, 2000))), svg("bird", ["bird"])),
        ("computer/icons/folder", png((10, 20, 30)), svg("folder", ["folder"])),
    ):
        drawings[f"{PNG_ROOT}{path}.png"], texts[f"{SVG_ROOT}{path}.svg"] = content, text
    return drawings, texts


def clips():
    names = [f"{colour} thing {number}" for number in range(10) for colour in ("red", "green", "blue", "grey")]
    table, files = [], {}
    for number, name in enumerate(names):
        code = f"1F{number:03X}"
        table.append({"hexcode": f"{code}-FE0F", "annotation": f"{name}: light skin tone", "group": "things"})
        frames = [Image.new("RGBA", (24, 24), (60 * step, number, 255 - number, 255)) for step in range(4)]
        files[f"assets/{code.lower()}.webp"] = encoded(
            frames[0], format="WEBP", save_all=True, append_images=frames[1:], lossless=True
        )
    files["assets/1f999.webp"] = encoded(Image.new("RGB", (8, 8)), format="WEBP")
    table.append({"hexcode": "1F999", "annotation": "still", "group": "things"})
    return files, {"data/openmoji.json": json.dumps(table).encode()}


MAKERS = {"pypi": wheel, "npm": npm, "debian": deb}


def asset(converter, *contents):
    """(asset, file contents): an entry of the catalogue of packages (registry, name, version, files in it)."""
    packages, made = [], []
    for registry, name, version, files in contents:
        content = MAKERS[registry](name, version, files)
        digest = hashlib.sha256(content).hexdigest()
        packages.append(Package(registry=registry, name=name, version=version, sha256=digest, megabytes=1))
        made.append(content)
    return Asset(summary="tiny", licence="Test-1.0", packages=tuple(packages), converter=converter), made


def picture_assets():
    """name -> (asset, file contents) of everything that the pictures' data is made of."""
    drawings, texts = clip_art()
    animated, table = clips()
    return {
        "stamps": asset("zoo.packaged.pictures:convert_stamps", ("debian", "tiny-stamps", "1.0-1", stamps())),
        "clip-art": asset(
            "zoo.packaged.pictures:convert_clip_art",
            ("debian", "tiny-png", "1:2.0-1", drawings),
            ("debian", "tiny-svg", "1:2.0-1", texts),
        ),
        "animated-emoji": asset(
            "zoo.packaged.clips:convert",
            ("npm", "@tiny/clips", "1.0.0", animated),
            ("npm", "tiny-table", "2.0.0", table),
        ),
    }
