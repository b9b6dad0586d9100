"""Released checkpoints: recognised by keys and config, renamed both ways, loaded strictly, exported."""

from zoo.weights.blip2 import BLIP2_HF, INSTRUCTBLIP_HF
from zoo.weights.chat_univi import CHAT_UNIVI_ORIGINAL
from zoo.weights.export import export
from zoo.weights.florence_2 import FLORENCE_2_HF
from zoo.weights.idefics import IDEFICS_HF
from zoo.weights.kosmos_2 import KOSMOS_2_HF
from zoo.weights.lavis import BLIP2_OPT_LAVIS, BLIP2_T5_LAVIS, INSTRUCTBLIP_T5_LAVIS, INSTRUCTBLIP_VICUNA_LAVIS
from zoo.weights.layouts import Layout, Rule, convert, detect, get_layout
from zoo.weights.llama_vid import LLAMA_VID_ORIGINAL
from zoo.weights.llava import LLAVA_HF, LLAVA_ORIGINAL
from zoo.weights.llava_like import GPT4ROI_ORIGINAL, SHIKRA_ORIGINAL, VIDEO_CHATGPT_ORIGINAL
from zoo.weights.llava_lora import LLAVA_LORA
from zoo.weights.llava_next import LLAVA_NEXT_HF, LLAVA_NEXT_ORIGINAL, LLAVA_NEXT_VIDEO_HF, LLAVA_ONEVISION_HF
from zoo.weights.minigpt_4 import MINIGPT_4_ORIGINAL
from zoo.weights.openflamingo import OPENFLAMINGO
from zoo.weights.openflamingo_full import OPENFLAMINGO_FULL
from zoo.weights.otter import OTTER
from zoo.weights.paligemma import PALIGEMMA_HF
from zoo.weights.published import published_config, published_ids
from zoo.weights.released import load_released
from zoo.weights.video_llama import VIDEO_LLAMA_ORIGINAL
from zoo.weights.video_llava import VIDEO_LLAVA_HF, VIDEO_LLAVA_ORIGINAL
from zoo.weights.vip_llava import VIP_LLAVA_HF, VIP_LLAVA_ORIGINAL

__all__ = [
    "BLIP2_HF",
    "BLIP2_OPT_LAVIS",
    "BLIP2_T5_LAVIS",
    "CHAT_UNIVI_ORIGINAL",
    "FLORENCE_2_HF",
    "GPT4ROI_ORIGINAL",
    "IDEFICS_HF",
    "INSTRUCTBLIP_HF",
    "INSTRUCTBLIP_T5_LAVIS",
    "INSTRUCTBLIP_VICUNA_LAVIS",
    "KOSMOS_2_HF",
    "LLAMA_VID_ORIGINAL",
    "LLAVA_HF",
    "LLAVA_LORA",
    "LLAVA_NEXT_HF",
    "LLAVA_NEXT_ORIGINAL",
    "LLAVA_NEXT_VIDEO_HF",
    "LLAVA_ONEVISION_HF",
    "LLAVA_ORIGINAL",
    "MINIGPT_4_ORIGINAL",
    "OPENFLAMINGO",
    "OPENFLAMINGO_FULL",
    "OTTER",
    "PALIGEMMA_HF",
    "SHIKRA_ORIGINAL",
    "VIDEO_CHATGPT_ORIGINAL",
    "VIDEO_LLAMA_ORIGINAL",
    "VIDEO_LLAVA_HF",
    "VIDEO_LLAVA_ORIGINAL",
    "VIP_LLAVA_HF",
    "VIP_LLAVA_ORIGINAL",
    "Layout",
    "Rule",
    "convert",
    "detect",
    "export",
    "get_layout",
    "load_released",
    "published_config",
    "published_ids",
]
