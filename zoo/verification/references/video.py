"""Original code of video methods: Video-ChatGPT from frame features on, Video-LLaMA up to the language model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import LlamaConfig

from zoo.connectors import ConnectorContext, SpatioTemporalPooling, VideoQFormer
from zoo.connectors.pooling import PooledProjection
from zoo.data.encode import IGNORED_LABEL
from zoo.encoders import EncoderConfig, Features, build_encoder
from zoo.fusion import Splice
from zoo.language import LanguageModelConfig, build_language_model
from zoo.model import VLM
from zoo.registry import get_method
from zoo.verification.case import Case
from zoo.verification.inputs import MediaInput, make_batch
from zoo.verification.parts import StoredFeatures, load_canonical
from zoo.verification.references.lavis import tower_architecture
from zoo.verification.registry import Arguments, Loaded, Reading, part, whole_model
from zoo.verification.report import Report
from zoo.weights import lavis
from zoo.weights.checkpoint_config import architecture, parse
from zoo.weights.files import open_weights
from zoo.weights.llava_like import VIDEO_CHATGPT_ORIGINAL
from zoo.weights.video_llama import VIDEO_LLAMA_ORIGINAL

_MAIN = "main"


@contextmanager
def _kept(module: nn.Module, *, given: bool = False) -> Iterator[list[Tensor]]:
    """What a module gives, or is given, in each call."""
    found: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, arguments, result: found.append(arguments[0] if given else result))
    try:
        yield found
    finally:
        hook.remove()


def _load_video_chatgpt(case: Case) -> Loaded:
    """config.json: ``n`` temporal, ``s`` spatial tokens; ``lm``, fields of the Llama. Features are stored: no tower."""
    weights, sizes = open_weights(case.folder), case.config
    text = parse(lambda: LlamaConfig(**sizes["lm"]), case.folder)
    language_model = build_language_model(LanguageModelConfig(architecture=architecture(text)))
    grid = (1, sizes["s"])
    dim_in = weights["model.mm_projector.weight"].shape[1]
    connector = SpatioTemporalPooling(num_temporal=sizes["n"]).build(
        dim_in=dim_in, dim_out=language_model.dim, grid=grid, num_features=sizes["s"]
    )
    model = VLM(
        get_method("video-chatgpt"),
        encoder=StoredFeatures(grid),
        connector=connector,
        fusion=Splice().build(dim_media=language_model.dim, language_model=language_model),
        language_model=language_model,
    )
    layout = VIDEO_CHATGPT_ORIGINAL
    return Loaded(model=load_canonical(model, weights, layout, where=case.folder), layout=layout)


@torch.no_grad()
def _compare_pooling(case: Case, model: VLM, report: Report) -> None:
    """The tokens before the projection: as the model has them, and with the 100 temporal ones of its inference."""
    videos = case.input(_MAIN, "frame_features")
    num_videos, _, num_features, dim = videos.shape
    assert isinstance(model.connector, PooledProjection)
    pooled = _pooled(model.connector, videos)
    report.compare(_MAIN, "spatio_temporal_features", pooled.unflatten(0, (num_videos, -1)))
    if "pool_to_100" in case.probes:
        connector = SpatioTemporalPooling(num_temporal=100).build(
            dim_in=dim, dim_out=1, grid=model.encoder.grid, num_features=num_features
        )
        first = _pooled(connector, videos[:1])
        report.compare("pool_to_100", "features_first_16_channels", first[:, :16])


def _pooled(connector: PooledProjection, videos: Tensor) -> Tensor:
    features = Features(tokens=videos.flatten(0, 1), grid=(1, videos.shape[2]))
    with _kept(connector.projection, given=True) as found:
        connector(
            features, ConnectorContext(num_frames=(videos.shape[1],) * len(videos), is_video=(True,) * len(videos))
        )
    return found[0]


@whole_model("Video-ChatGPT", load=_load_video_chatgpt, extra=_compare_pooling)
def pooled_videos(arguments: Arguments, model: VLM, case: Case) -> Reading | None:
    """``frame_features`` (videos, frames, tokens, dim). Generation goes on from the first prompt."""
    probe = arguments.probe
    if not probe.inputs and not probe.generates:
        return None
    given = probe.inputs or case.probes[_MAIN].inputs
    ids, features, labels = given["input_ids"], given["frame_features"], given.get("labels")
    for name in given:
        arguments.get(name)
    if not probe.inputs:
        assert labels is not None
        prompt = int((labels[0] != IGNORED_LABEL).nonzero()[0])
        ids, features, labels = ids[:1, :prompt], features[:1], None
    media = MediaInput(frames=list(features), mask=ids == case.config["patch"], is_video=True)
    return Reading(batch=make_batch(model, ids=ids, labels=labels, media=[media]))


class _TowerAndConnector(nn.Module):
    """Two parts of a model under their canonical names."""

    def __init__(self, encoder: nn.Module, connector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.connector = encoder, connector


@part("Video-LLaMA")
@torch.no_grad()
def video_llama(case: Case, report: Report) -> None:
    """``video`` (batch, channel, time, height, width) to the language model's input."""
    weights, sizes = open_weights(case.folder), case.config
    frame = lavis.qformer_sizes(weights, "Qformer.bert.", "query_tokens")
    video = lavis.qformer_sizes(weights, "video_Qformer.bert.", "video_query_tokens")
    tower = EncoderConfig(architecture=tower_architecture(case, weights), layer=-1, class_token=True, resize="squash")
    encoder = build_encoder(tower)
    connector = VideoQFormer(
        num_frame_queries=frame["num_queries"],
        num_queries=video["num_queries"],
        max_frames=len(weights["video_frame_position_embedding.weight"]),
        width=frame["width"],
        num_layers=frame["num_layers"],
        num_video_layers=video["num_layers"],
        num_heads=sizes["q"]["heads"],
        intermediate=frame["intermediate"],
    ).build(
        dim_in=encoder.dim,
        dim_out=len(weights["llama_proj.weight"]),
        grid=encoder.grid,
        num_features=encoder.num_tokens,
    )
    parts = _TowerAndConnector(encoder, connector)
    load_canonical(parts, weights, VIDEO_LLAMA_ORIGINAL, where=case.folder)
    report.layout = VIDEO_LLAMA_ORIGINAL.name
    videos = case.input(_MAIN, "video")
    num_videos, _, num_frames = videos.shape[:3]
    features = encoder(videos.transpose(1, 2).flatten(0, 1))
    context = ConnectorContext(num_frames=(num_frames,) * num_videos, is_video=(True,) * num_videos)
    with _kept(connector.frame) as by_frame, _kept(connector.video) as by_video:
        soft = connector(features, context)
    report.compare(_MAIN, "frame_queries", by_frame[0])
    report.compare(_MAIN, "video_queries", by_video[0])
    soft = soft.unflatten(0, (num_videos, -1))
    report.compare(_MAIN, "llm_embeds", soft)
    report.compare(_MAIN, "llm_attention_mask", torch.ones(soft.shape[:2], dtype=torch.long))
