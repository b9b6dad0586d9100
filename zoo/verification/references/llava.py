"""LLaVA's own code: prompts with the id -200 where an image goes, widened by its forward."""

import torch

from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL
from zoo.model import VLM
from zoo.verification.case import Case
from zoo.verification.registry import Arguments, Reading, whole_model

IMAGE_TOKEN_INDEX = -200


# Its generate is given embeddings alone and returns a start token before what it wrote.
@whole_model(
    "LLaVA LlavaLlamaForCausalLM", embeddings="merged_embeds", soft_tokens=("image_features",), num_start_tokens=1
)
def spliced_images(arguments: Arguments, model: VLM, case: Case) -> Reading:
    """Source: LLaVA, llava/model/llava_arch.py, ``prepare_inputs_labels_for_multimodal``.

    A row without placeholder uses up an image that it does not show.
    """
    ids, mask, labels = (arguments.get(name) for name in ("input_ids", "attention_mask", "labels"))
    images = arguments.get("images")
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    labels = torch.full_like(ids, IGNORED_LABEL) if labels is None else labels
    (width,) = model.num_media_tokens([1], [False])
    examples, used, number = [], [], 0
    for row, (tokens, wanted, keep) in enumerate(zip(ids, labels, real)):
        tokens, wanted = tokens[keep], wanted[keep]
        repeats = torch.where(tokens == IMAGE_TOKEN_INDEX, width, 1)
        is_medium = (tokens == IMAGE_TOKEN_INDEX).repeat_interleave(repeats)
        num_images = int((tokens == IMAGE_TOKEN_INDEX).sum())
        shown = list(range(number, number + num_images))
        number += max(1, num_images)
        used += shown
        ends = repeats.cumsum(0)
        examples.append(
            Example(
                sample_id=f"row {row}",
                ids=tokens.repeat_interleave(repeats),
                labels=wanted.repeat_interleave(repeats).masked_fill(is_medium, IGNORED_LABEL),
                media_mask=is_medium,
                frames=images[shown] if shown else None,
                num_frames=(1,) * num_images,
                geometries=(),
                num_supervised=0,
                is_video=(False,) * num_images,
                media_starts=tuple((ends - repeats)[tokens == IMAGE_TOKEN_INDEX].tolist()),
            )
        )
    side = case.config.get("tokenizer_padding_side", "right")
    # A generating prompt has nothing behind it.
    return Reading(batch=pad(examples, side="left" if arguments.probe.generates else side), media=used)
