"""Pretrain the language model of the setting scenes-tiny on text of the synthetic world's training split.

    python benchmarks/backbones/scenes_tiny_language_model.py --out zoo/assets/scenes-tiny/language_model --seed 0

It learns to take its answers from facts that stand before the question, in the conversation formats of the zoo. Most
facts come pooled: the words of one object ("large red striped circle top left") summed to one position, since a tiny
model learns to look facts up at single positions in minutes and over running text only in hours. No image is involved;
images and text meet first when a method aligns them.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zoo.data.batch import Batch, Example, pad, shifted_labels
from zoo.data.encode import IGNORED_LABEL, encode
from zoo.data.sample import Medium, Sample
from zoo.data.scenes import draw_scene, vocabulary
from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import MAKERS, Told
from zoo.data.scenes.source import caption_turn, turn_messages
from zoo.data.scenes.world import PLACES, Scene
from zoo.data.templates import Template, get_template

# A stream of random draws of its own: no scene is shared with the training samples or the evaluation items.
STREAM = 102
TRAIN, VALIDATION = 0, 1
SPECIAL = ("<pad>", "<s>", "</s>")
TASKS = ("existence", "colour", "shape", "count")
CHATS = ("vicuna_v1", "llava_v0")
STEPS, BATCH, WARM_UP = 3000, 24, 40
NUM_QUESTIONS, NUM_STATEMENTS = 6, 6
STATEMENT_SHARE, CAPTION_SHARE, BARE_SHARE, TEXT_SHARE = 0.25, 0.1, 0.8, 0.15
MATRIX_LR, VECTOR_LR, NOISE = 0.01, 3e-3, 0.1
WIDTH = 128
ARCHITECTURE = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    # The usual 0.02 is for widths of thousands; at 128 it lets hardly anything through.
    "initializer_range": WIDTH**-0.5,
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text is encoded without loss; each word of the world and of the templates is one token.

    The merges are learnt on bare words; then each word gets one more merge with the blank before it. Learnt on words
    with their blanks, every word would need its inner merges twice.
    """
    templates = [get_template(name) for name in CHATS]
    texts = [text for t in templates for text in (t.system, t.user_open, t.assistant_open, t.start)]
    words = [*vocabulary(), *(word for text in texts for word in split(text))]
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    learnt.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["merges"]]
    merges += [("Ġ", word) for word in dict.fromkeys(words) if word[0].isalnum()]
    tokens = dict.fromkeys([*SPECIAL, *alphabet, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
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


@dataclass(frozen=True)
class Text:
    """A sample, its template, its tasks, and the phrases of its facts where these are pooled to one position each."""

    sample: Sample
    template: Template
    tasks: tuple[str, ...]
    phrases: tuple[str, ...]


def statements(scene: Scene, draw: Draw) -> str:
    """Sentences that name an object by some of its attributes and tell others: ``the star is red and large.``"""
    told = []
    for _ in range(NUM_STATEMENTS):
        index = draw.below(len(scene.things))
        thing = scene.things[index]
        if named := language.references(scene, index):
            phrase, given = draw.choice(named)
            rest = [word for word in (thing.size, thing.colour, thing.texture, thing.shape) if word not in given]
            shuffled = [rest[place] for place in draw.shuffled(range(len(rest)))]
            told.append(f"{phrase} is {language.join(shuffled[: draw.between(1, len(shuffled))])}.")
    return " ".join(told)


def draw_text(seed: int, split: int, index: int) -> Text:
    """Facts, then statements, a caption or questions about them. Validation asks questions only, about pooled facts."""
    draw = Draw(seed, split, STREAM, index)
    scene = draw_scene(draw, "")
    template = get_template(draw.choice(CHATS))
    if draw.coin(BARE_SHARE):
        template = replace(template, system="", system_close="")
    phrases: tuple[str, ...] = ()
    if split == TRAIN and draw.coin(TEXT_SHARE):
        facts = language.description(scene)
    else:
        facts = "<image>"
        told = {thing.place: f"{language.full_phrase(thing)} {thing.place}" for thing in scene.things}
        phrases = tuple(told.get(place, place) for place in PLACES)
    # As in the align stage: the facts, and the text right behind them.
    plain = replace(get_template("plain"), media="inline")
    if split == TRAIN and draw.coin(STATEMENT_SHARE):
        turns, template, tasks = [("", statements(scene, draw))], plain, ("statements",)
        facts += "\n"
    elif split == TRAIN and draw.coin(CAPTION_SHARE):
        turns, template, tasks = [("", caption_turn(scene, draw)[1])], plain, ("caption",)
    else:
        questions = []
        while len(questions) < NUM_QUESTIONS:
            if question := MAKERS[draw.choice(TASKS)](scene, draw, Told()):
                questions.append(question)
        turns, tasks = [(q.text, q.answer) for q in questions], tuple(q.task for q in questions)
        facts += "\n"
    media = (Medium(kind="image", source=None),) if phrases else ()
    return Text(Sample(id=str(index), messages=turn_messages(turns, facts), media=media), template, tasks, phrases)


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


def embed(model: LlamaForCausalLM, batch: Batch, phrases: Sequence[list[int]], noise: float) -> Tensor:
    """Word embeddings; where a phrase is pooled, the sum of its words' embeddings over the root of their number."""
    table = model.get_input_embeddings()
    embeddings = table(batch.ids)
    if not phrases:
        return embeddings
    flat = torch.tensor([token for ids in phrases for token in ids])
    owner = torch.tensor([row for row, ids in enumerate(phrases) for _ in ids])
    counts = torch.tensor([len(ids) for ids in phrases])[:, None]
    pooled = embeddings.new_zeros(len(phrases), WIDTH).index_add(0, owner, table(flat)) / counts.sqrt()
    pooled = pooled + noise * pooled.detach().pow(2).mean().sqrt() * torch.randn_like(pooled)
    return embeddings.masked_scatter(batch.media_mask[..., None], pooled)


def answer_logits(
    model: LlamaForCausalLM, batch: Batch, phrases: Sequence[list[int]], noise: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Logits (supervised tokens, vocabulary) and their targets."""
    hidden = model.model(
        inputs_embeds=embed(model, batch, phrases, noise),
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    targets = shifted_labels(batch)
    supervised = targets != IGNORED_LABEL
    return model.lm_head(hidden[:, :-1][supervised]), targets[supervised]


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024), scaled to the size of AdamW's.

    In float32: torch.optim.Muon works in bfloat16, which many CPUs only emulate. AdamW needs several times the steps.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"])
                wide = update if update.shape[0] <= update.shape[1] else update.T
                wide = wide / (wide.norm() + 1e-7)
                for _ in range(5):  # Newton-Schulz: singular values towards one
                    gram = wide @ wide.T
                    wide = 3.4445 * wide + (-4.775 * gram + 2.0315 * gram @ gram) @ wide
                update = wide if update.shape[0] <= update.shape[1] else wide.T
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **ids, **ARCHITECTURE))
    nn.init.normal_(model.get_input_embeddings().weight, std=0.5)
    with torch.no_grad():
        # Blocks start as the identity, so that the words are what the first steps see.
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.mul_(0.1)
    return model


def train(seed: int, tokenizer: PreTrainedTokenizerFast, steps: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = new_model(tokenizer)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers" in name)]
    optimizers = [Muon(matrices, MATRIX_LR), torch.optim.AdamW(others, lr=VECTOR_LR, betas=(0.9, 0.98), weight_decay=0)]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    order = np.random.Generator(np.random.PCG64(seed))
    chunks: list[list[tuple[Example, list[list[int]]]]] = []
    mean = 0.0
    for step in range(steps):
        if not chunks:  # samples of similar length share a batch
            first = step * BATCH
            drawn = [encode_text(draw_text(seed, TRAIN, first + i), tokenizer) for i in range(8 * BATCH)]
            drawn.sort(key=lambda entry: len(entry[0]))
            chunks = [drawn[place * BATCH : (place + 1) * BATCH] for place in order.permutation(8)]
        examples, phrases = zip(*chunks.pop(), strict=True)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * min(1, (step + 1) / WARM_UP) * min(1, 2 * (1 - step / steps))
            optimizer.zero_grad()
        batch = pad(examples, pad_id=tokenizer.pad_token_id)
        pooled = [ids for entry in phrases for ids in entry]
        loss = functional.cross_entropy(*answer_logits(model, batch, pooled, NOISE))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        mean += float(loss.detach()) / 100
        if step % 100 == 99:
            print(f"step {step + 1} loss {mean:.4f} cpu {time.process_time():.0f} s", flush=True)
            mean = 0.0
        if step % 500 == 499:
            print(measure(model, tokenizer, seed, 100), flush=True)
    return model.eval()


@torch.no_grad()
def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, num: int = 400) -> dict[str, float]:
    """The part of answers, by task, whose every token is the likeliest one, given facts of scenes never trained on."""
    right: dict[str, list[bool]] = {}
    for index in range(num):
        text = draw_text(seed, VALIDATION, index)
        example, phrases = encode_text(text, tokenizer)
        batch = pad([example])
        logits, targets = answer_logits(model, batch, phrases)
        hits = (logits.argmax(-1) == targets).tolist()
        positions = (shifted_labels(batch)[0] != IGNORED_LABEL).nonzero()[:, 0].tolist()
        answers: list[list[bool]] = []
        for place, hit in enumerate(hits):
            if place and positions[place] == positions[place - 1] + 1:
                answers[-1].append(hit)
            else:
                answers.append([hit])
        for task, answer in zip(text.tasks, answers, strict=True):
            right.setdefault(task, []).append(all(answer))
    return {task: round(float(np.mean(values)), 3) for task, values in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    # One thread, so that the sums are made in the same order wherever the script runs.
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = train(options.seed, tokenizer, options.steps)
    print(f"right answers from pooled facts: {measure(model, tokenizer, options.seed)}")
    print(f"{time.process_time():.0f} CPU seconds")
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
