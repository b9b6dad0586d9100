"""Pretrain the two backbones of the setting scenes-tiny on the training split of the synthetic world.

    python benchmarks/backbones/scenes_tiny.py --out zoo/assets/scenes-tiny --seed 0

The vision encoder learns the attributes of the object under each patch, read by throw-away linear heads from its last
layer. The language model is trained to answer questions and to write captions from facts stated in its context, in the
conversation formats of the zoo; in a part of its samples every fact is pooled to one position, the scaled sum of its
words' embeddings. Neither sees the other's modality: images and text meet first when a method aligns them.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zoo.data.batch import IGNORE, Batch, Example, pad, shifted_labels
from zoo.data.encode import encode
from zoo.data.sample import Medium, Sample
from zoo.data.scenes import cell_labels, draw_scene, render_image, text_sample, vocabulary
from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.source import INSTRUCT_TASKS, caption_turn, image_scene, question_turns, turn_messages
from zoo.data.scenes.world import CHANNELS, COLOURS, MAX_THINGS, PLACES, SHAPES, Plan, Scene
from zoo.data.templates import TEMPLATES, Template, get_template
from zoo.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform

SPECIAL = ("<pad>", "<s>", "</s>")
IMAGE_SIZE, PATCH_SIZE = 48, 16
# Numbers of the streams of random draws, beyond those of the world's own: no scene is shared with any training sample.
ENCODER_STREAM, LANGUAGE_STREAM = 101, 102
TRAIN, VALIDATION = 0, 1
ENCODER_STEPS, LANGUAGE_STEPS = 1500, 3000
EMBEDDING_STD = 0.1
NOISE = 0.2
# Single questions for this part of the training: reading comes before telling questions apart.
SINGLE_PART = 0.4
ENCODER = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "projection_dim": 96,
}
LANGUAGE_MODEL = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "initializer_range": 0.09,
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text is encoded without loss; each word of the world and of the templates is one token.

    The merges are learnt on bare words; then each word gets one more merge with the blank before it. Learnt on words
    with their blanks, every word would need its inner merges twice.
    """
    texts = [
        text
        for template in TEMPLATES.values()
        if template.name in ("vicuna_v1", "llava_v0")
        for text in (template.system, template.user_open, template.assistant_open, template.start)
    ]
    words = [*vocabulary(), *(word for text in texts for word in split(text))]
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learnt.train_from_iterator(words, trainer)
    state = json.loads(learnt.to_str())["model"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(pair) for pair in state["merges"]]
    merges += [("Ġ", word) for word in dict.fromkeys(words) if word[0].isalnum()]
    tokens = [*SPECIAL, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def split(text: str) -> list[str]:
    """The pieces that the tokenizer's pre-tokenizer makes, without their leading blanks."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return [bare for piece, _ in pieces if (bare := piece.lstrip("ĠĊ"))]


HEADS = {**{channel: len(words) + 1 for channel, words in CHANNELS.items()}, "place": 10}
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def patch_labels(scene: Scene, grid: int) -> np.ndarray:
    """(grid * grid, 5) int64: cell_labels, and behind them the place (from 1) of the object that the patch shows."""
    labels = cell_labels(scene, grid)
    places = np.zeros(grid * grid, dtype=np.int64)
    for thing in scene.things:
        alone = cell_labels(Scene(name="", things=(thing,), background=scene.background), grid)
        mine = (alone[:, 0] > 0) & (alone == labels).all(axis=1) & (places == 0)
        places[mine] = 1 + thing.row * 3 + thing.column
    return np.concatenate([labels, places[:, None]], axis=1)


def encoder_batch(
    seed: int, split: int, indices: Sequence[int], transform: ImageTransform, grid: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pixels (batch, 3, size, size), patch labels (batch, patches, 5), pairs in the image (batch, 24)."""
    pixels, labels, pairs = [], [], torch.zeros(len(indices), len(PAIRS))
    for row, index in enumerate(indices):
        scene = draw_scene(Draw(seed, split, ENCODER_STREAM, index), "")
        pixels.append(transform.apply(render_image(scene, transform.size))[0])
        labels.append(patch_labels(scene, grid))
        for thing in scene.things:
            pairs[row, PAIRS.index((thing.colour, thing.shape))] = 1
    return torch.stack(pixels), torch.from_numpy(np.stack(labels)), pairs


class EncoderHeads(nn.Module):
    """The throw-away heads: one linear layer for each attribute of a patch, one for the pairs in the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})
        self.whole = nn.Linear(width, len(PAIRS))


def cosine(step: int, total: int, warm: int) -> float:
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


def optimizer_for(modules: Sequence[nn.Module], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW without decay on vectors."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))


def train_encoder(seed: int, steps: int, batch: int = 64, lr: float = 1.5e-3) -> tuple[CLIPVisionModel, EncoderHeads]:
    torch.manual_seed(seed)
    model = CLIPVisionModel(CLIPVisionConfig(**ENCODER))
    heads = EncoderHeads(model.config.hidden_size)
    transform = ImageTransform(size=ENCODER["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    grid = ENCODER["image_size"] // ENCODER["patch_size"]
    optimizer = optimizer_for([model, heads], lr, 0.05)
    for step in range(steps):
        pixels, labels, pairs = encoder_batch(seed, TRAIN, range(step * batch, (step + 1) * batch), transform, grid)
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(step, steps, 100)
        output = model(pixel_values=pixels)
        tokens = output.last_hidden_state[:, 1:]
        # Features of unit scale: the connector starts from inputs as large as its initialisation expects.
        loss = 0.01 * (tokens.pow(2).mean() - 1).pow(2)
        for place, head in enumerate(heads.patch.values()):
            loss = loss + functional.cross_entropy(head(tokens).flatten(0, 1), labels[..., place].flatten())
        loss = loss + functional.binary_cross_entropy_with_logits(heads.whole(output.pooler_output), pairs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(
                f"encoder step {step + 1} loss {float(loss.detach()):.4f} cpu {time.process_time():.0f} s", flush=True
            )
    return model.eval(), heads.eval()


@torch.no_grad()
def measure_encoder(model: CLIPVisionModel, heads: EncoderHeads, seed: int, num_scenes: int = 512) -> dict[str, float]:
    """Accuracy of the heads on patches that show an object, in scenes never trained on; ``pairs``: of whole images."""
    transform = ImageTransform(size=ENCODER["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    grid = ENCODER["image_size"] // ENCODER["patch_size"]
    pixels, labels, pairs = encoder_batch(seed, VALIDATION, range(num_scenes), transform, grid)
    output = model(pixel_values=pixels)
    tokens = output.last_hidden_state[:, 1:]
    shown = labels[..., 0] > 0
    found = {}
    for place, (name, head) in enumerate(heads.patch.items()):
        found[name] = float((head(tokens).argmax(-1) == labels[..., place])[shown].float().mean())
    found["pairs"] = float(((heads.whole(output.pooler_output) > 0) == (pairs > 0)).all(1).float().mean())
    found["rms"] = float(tokens.pow(2).mean().sqrt())
    return found


CHATS = ("vicuna_v1", "llava_v0")
# Facts, then the caption, as an image is followed by its caption when a connector is aligned.
FACTS_AND_CAPTION = replace(get_template("plain"), media="inline")
CAPTION_SHARE, BARE_SHARE, EMPTY_SHARE = 0.3, 0.5, 0.7
ENDS = (";", ".", ",")


@dataclass(frozen=True)
class Text:
    """A sample, its template, and the phrases of its facts where these are pooled to one position each."""

    sample: Sample
    template: Template
    phrases: tuple[str, ...] = ()


def pooled_facts(scene: Scene, draw: Draw) -> tuple[str, ...]:
    """A phrase for each object, in reading order; with EMPTY_SHARE also the bare name of each place without object."""
    told = {thing.place: f"{language.full_phrase(thing)} {thing.place}" for thing in scene.things}
    if draw.coin(EMPTY_SHARE):
        return tuple(told.get(place, place) for place in PLACES)
    return tuple(told.values())


def terse_facts(scene: Scene, draw: Draw) -> str:
    """The objects' words without grammar, in any order within an object, each object closed by a mark."""
    end = draw.choice(ENDS)
    order = draw.shuffled(range(5))
    told = []
    for thing in scene.things:
        words = (thing.size, thing.colour, thing.texture, thing.shape, thing.place)
        told.append(" ".join(words[place] for place in order) + end)
    return " ".join(told)


def language_sample(
    seed: int, split: int, index: int, pooled: float = 0.0, wordy: float = 1.0, first: bool = False
) -> Text:
    """A conversation about facts: with probability ``pooled`` as pooled phrases, else as running text.

    ``wordy`` is the part of the running text in the world's own wordings (zoo.data.scenes.text_sample).
    ``first``: a single question (or caption) without system text.
    """
    draw = Draw(seed, split, LANGUAGE_STREAM, index)
    template = get_template(draw.choice(CHATS))
    # Where a template asks in another form than it trains on, the language model should know both.
    if template.inference is not None and draw.coin():
        template = template.inference
    if first or draw.coin(BARE_SHARE):
        template = replace(template, system="", system_close="")
    is_pooled = draw.coin(pooled)
    if not is_pooled and draw.coin(wordy):
        return Text(text_sample(("train", "validation")[split], draw.below(2**31), seed), template)
    tasks: tuple[str, ...] = ("caption",)
    if draw.coin(CAPTION_SHARE):
        scene = draw_scene(draw, "", plan=Plan(max_things=2 if first else MAX_THINGS))
        turns = [caption_turn(scene, draw)]
        if draw.coin():
            turns, template = [("", turns[0][1])], FACTS_AND_CAPTION
    else:
        scene, questions = image_scene(draw, "", False, INSTRUCT_TASKS, 1 if first else 6)
        turns, tasks = question_turns(questions), tuple(question.task for question in questions)
    facts = "<image>" if is_pooled else terse_facts(scene, draw)
    opening = facts if template is FACTS_AND_CAPTION else f"{facts}\n"
    sample = Sample(
        id=str(index),
        messages=turn_messages(turns, opening),
        media=(Medium(kind="image", source=None),) if is_pooled else (),
        info={"tasks": tasks},
    )
    return Text(sample, template, pooled_facts(scene, draw) if is_pooled else ())


def encode_text(text: Text, tokenizer: PreTrainedTokenizerFast) -> tuple[Example, list[list[int]]]:
    """The encoded sample and the ids of each pooled phrase."""
    num_tokens = [len(text.phrases)] if text.phrases else []
    encoded = encode(text.sample, text.template, tokenizer, num_media_tokens=num_tokens)
    example = Example(
        sample_id=text.sample.id,
        ids=encoded.ids,
        labels=encoded.labels,
        media_mask=encoded.media_mask,
        frames=None,
        num_frames=(),
        geometries=(),
        num_supervised=encoded.num_supervised,
    )
    return example, [tokenizer(f" {phrase}")["input_ids"] for phrase in text.phrases]


def language_batches(
    seed: int, tokenizer: PreTrainedTokenizerFast, steps: int, batch: int, pool: int = 8
) -> Iterator[tuple[Batch, list[list[int]]]]:
    """Batches of samples of similar length, with the ids of all pooled phrases in the order of their positions."""
    order = np.random.Generator(np.random.PCG64(seed))
    start = 0
    for step in range(0, steps, pool):
        done = step / steps
        first = done < SINGLE_PART
        pooled, wordy = max(1.0 - 2 * done, 0.5), min(1.0, done)
        size = 3 * batch if first else batch
        encoded = [
            encode_text(language_sample(seed, TRAIN, start + i, pooled, wordy, first), tokenizer)
            for i in range(size * pool)
        ]
        start += len(encoded)
        encoded.sort(key=lambda entry: len(entry[0]))
        for chunk in order.permutation(pool):
            examples, phrases = zip(*encoded[chunk * size : (chunk + 1) * size], strict=True)
            yield pad(examples, pad_id=tokenizer.pad_token_id), [ids for entry in phrases for ids in entry]


def embed(model: LlamaForCausalLM, batch: Batch, phrases: list[list[int]], noise: float = 0.0) -> torch.Tensor:
    """Word embeddings; where a phrase is pooled, the sum of its words' embeddings over the root of their number."""
    table = model.get_input_embeddings()
    embeddings = table(batch.ids)
    if not phrases:
        return embeddings
    flat = torch.tensor([token for ids in phrases for token in ids])
    owner = torch.tensor([row for row, ids in enumerate(phrases) for _ in ids])
    counts = torch.tensor([len(ids) for ids in phrases])[:, None]
    pooled = embeddings.new_zeros(len(phrases), embeddings.shape[-1]).index_add(0, owner, table(flat)) / counts.sqrt()
    if noise:
        pooled = pooled + noise * pooled.detach().pow(2).mean().sqrt() * torch.randn_like(pooled)
    return embeddings.masked_scatter(batch.media_mask[..., None], pooled)


def answer_logits(
    model: LlamaForCausalLM, batch: Batch, phrases: list[list[int]], noise: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (answers' tokens, vocabulary) and targets of the supervised positions."""
    hidden = model.model(
        inputs_embeds=embed(model, batch, phrases, noise),
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    )
    targets = shifted_labels(batch)
    supervised = targets != IGNORE
    return model.lm_head(hidden.last_hidden_state[:, :-1][supervised]), targets[supervised]


def new_language_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **LANGUAGE_MODEL,
        )
    )
    # Word embeddings as large as what a freshly drawn connector puts out, so that neither drowns the other.
    nn.init.normal_(model.get_input_embeddings().weight, std=EMBEDDING_STD)
    return model


def train_language_model(
    seed: int, tokenizer: PreTrainedTokenizerFast, steps: int, batch: int = 16, lr: float = 2e-3
) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = new_language_model(tokenizer)
    optimizer = optimizer_for([model], lr, 0.01)
    batches = language_batches(seed, tokenizer, steps, batch)
    mean = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(step, steps, 100)
        loss = functional.cross_entropy(*answer_logits(model, *next(batches), noise=NOISE))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += float(loss.detach()) / 100
        if step % 100 == 99:
            print(f"language model step {step + 1} loss {mean:.4f} cpu {time.process_time():.0f} s", flush=True)
            mean = 0.0
    return model.eval()


@torch.no_grad()
def measure_language_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, num_samples: int = 600, pooled: float = 0.0
) -> dict[str, float]:
    """The part of answers, by task, whose every token is the likeliest one, given facts of scenes never trained on."""
    right: dict[str, list[bool]] = {}
    for index in range(num_samples):
        text = language_sample(seed, VALIDATION, index, pooled)
        example, phrases = encode_text(text, tokenizer)
        logits, targets = answer_logits(model, (batch := pad([example])), phrases)
        hits = logits.argmax(-1) == targets
        positions = (shifted_labels(batch)[0] != IGNORE).nonzero()[:, 0].tolist()
        answers: list[list[bool]] = []
        for place, hit in enumerate(hits.tolist()):
            if place and positions[place] == positions[place - 1] + 1:
                answers[-1].append(hit)
            else:
                answers.append([hit])
        tasks = text.sample.info["tasks"] or ("caption",)
        for task, answer in zip(tasks, answers, strict=True):
            right.setdefault(task, []).append(all(answer))
    return {task: round(float(np.mean(values)), 3) for task, values in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for encoder/ and language_model/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("encoder", "language_model"), help="make one of the two")
    options = parser.parse_args()
    # One thread, so that the sums are made in the same order wherever the script runs.
    torch.set_num_threads(1)
    if options.only != "language_model":
        start = time.process_time()
        encoder, heads = train_encoder(options.seed, ENCODER_STEPS)
        print(
            f"encoder: {measure_encoder(encoder, heads, options.seed)}, {time.process_time() - start:.0f} CPU seconds"
        )
        encoder.save_pretrained(options.out / "encoder")
    if options.only != "encoder":
        start = time.process_time()
        tokenizer = build_tokenizer()
        model = train_language_model(options.seed, tokenizer, LANGUAGE_STEPS)
        for share, name in ((0.0, "facts as text"), (1.0, "facts as pooled phrases")):
            print(f"language model, {name}: {measure_language_model(model, tokenizer, options.seed, pooled=share)}")
        print(f"language model: {time.process_time() - start:.0f} CPU seconds")
        model.save_pretrained(options.out / "language_model")
        tokenizer.save_pretrained(options.out / "language_model")


if __name__ == "__main__":
    main()
