"""What a vision encoder is: which weights, which of their layers, and the images they expect."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zoo.data.tiles import Tiles

if TYPE_CHECKING:
    from zoo.data.transforms import ImageTransform


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A vision encoder. What is None is as the checkpoint or its family has it.

    Args:
        id: a name of ``KNOWN_ENCODERS``, a hub id (``owner/name``), a local folder in hub layout, or ``zoo:NAME`` for
            weights inside the package. Whole CLIP, SigLIP, BLIP-2 and InstructBLIP checkpoints give their vision part.
        revision: branch, tag or commit of a hub id.
        architecture: fields of the transformers configuration, ``model_type`` included; weights are then random. Only
            without ``id``.
        layer: index into transformers' ``hidden_states``: 0 is the input of the first block, k the output of block k,
            -1 the last block, -2 the one before. Never normalised unless ``post_norm`` says so.
        layers: several such indices, concatenated along the feature dimension; replaces ``layer``.
        class_token: keep the class token as first token, where the family has one.
        post_norm: apply the checkpoint's final LayerNorm to every token of the selected layers.
        image_size: side in pixels; other than the checkpoint's, position embeddings are interpolated.
        resize: crop, squash or pad, see ``ImageTransform``; None: crop for CLIP and DINOv2, squash for SigLIP and EVA.
        shortest_edge: shorter edge in pixels before a crop; None is the image size.
        interpolation: filter of the resizing.
        mean: of the channels, 0..1.
        std: of the channels, 0..1.
        pad_colour: RGB 0..255 for ``pad``; None is ``int(255 * mean)``.
        video_resize: ``resize`` for the frames of videos, where it is another than that of images.
        tiles: images are cut into tiles, each of them a frame of the encoder behind the whole image, which is squashed;
            ``resize`` is then that of images that are not cut. None: every image is one frame.
        video: a second tower, for the frames of videos (Video-LLaVA); None: one tower for images and videos. Both give
            the same number of tokens of the same width.
    """

    id: str = ""
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    layer: int = -1
    layers: tuple[int, ...] = ()
    class_token: bool = False
    post_norm: bool = False
    image_size: int | None = None
    resize: str | None = None
    shortest_edge: int | None = None
    interpolation: str = "bicubic"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pad_colour: tuple[int, ...] | None = None
    video_resize: str | None = None
    tiles: Tiles | None = None
    video: "EncoderConfig | None" = None

    def transform(self, image_size: int | None = None) -> "ImageTransform":
        """The preprocessing that goes with this encoder, without building it; a built one carries it as ``transform``.

        Reads the checkpoint's ``config.json`` unless ``id`` is a known name or empty.

        Args:
            image_size: side in pixels, in place of this config's and the checkpoint's.
        """
        from zoo.encoders.families import image_transform
        from zoo.encoders.source import resolve

        config = self if image_size is None else replace(self, image_size=image_size)
        return image_transform(config, resolve(self).architecture)
