"""Pretrain the language model of the setting scenes-tiny on text of the synthetic world's training split.

    python benchmarks/backbones/scenes_tiny_language_model.py --out zoo/assets/scenes-tiny/language_model --seed 0

It learns to take its answers from facts that stand before the question, in the conversation formats of the zoo. Most
facts come pooled: the words of one object ("large red striped circle top left") summed to one position, since a tiny
model learns to look facts up at single positions in minutes and over running text only in hours. How many positions
there are and what is pooled in each varies, as it does among connectors: a position a cell in reading order, the
objects alone in any order, the cells of each frame of a video, or a video's means over cells and over frames. No image
is involved; images and text meet first when a method aligns them.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zoo.data.sample import Message
from zoo.data.scenes import draw_scene, vocabulary
from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import MAKERS, Question, Told
from zoo.data.scenes.source import caption_turn, turn_messages
from zoo.data.scenes.videos import draw_video, motion_direction
from zoo.data.scenes.world import GRID, PLACES, Scene, Thing
from zoo.data.template import Template
from zoo.data.templates import get_template

# A stream of random draws of its own: no scene is shared with the training samples or the evaluation items.
STREAM = 102
TRAIN, VALIDATION = 0, 1
SPECIAL = ("<pad>", "<s>", "</s>")
IGNORED = -100
IMAGE_TASKS = ("existence", "existence", "colour", "colour", "shape", "shape", "count")
REGION_TASKS = ("region_colour", "region_colour", "region_shape", "region_locate", "region_locate", "region_locate")
STEPS, BATCH, WARM_UP = 5000, 24, 60
NUM_QUESTIONS, NUM_STATEMENTS, NUM_FRAMES = 6, 4, 4
# The first steps see statements and questions about images only: looking up comes first, all else builds on it.
FIRST_STEPS, FIRST_STATEMENT_SHARE = 900, 0.5
# Shares of all texts, one after the other: each is of what the ones before it left.
VIDEO_SHARE, NUMERALS_SHARE, TEXT_SHARE, STATEMENT_SHARE, CAPTION_SHARE, REGION_SHARE = 0.28, 0.14, 0.04, 0.15, 0.1, 0.5
# Of statements about an object given by its place; of videos with one object; of videos told by a caption, and by the
# first and the last place of what moves.
PLACE_SHARE, SINGLE_SHARE, VIDEO_CAPTION_SHARE, TRACK_SHARE = 0.4, 0.5, 0.2, 0.4
WORDS_FIRST_SHARE = 0.75
# Of a token of statements and captions beside one of an answer: they have ten times as many.
PROSE_WEIGHT = 0.3
# How a box of the question is written: LLaVA-1.5's numerals, Shikra's, or the object's facts at their own position.
BOX_FORMS = ("two decimals", "three decimals", "region")
# Positions of a video's facts: every cell of every frame, or the means over cells and then those over frames.
VIDEO_FORMS = ("cells", "means")
# A position holds its words' embeddings times WORD_WEIGHT; while training with a scale, an offset common to a text and
# noise, all as parts of a phrase's usual size.
WORD_WEIGHT, MAX_OFFSET, NOISE = 0.4, 0.5, 0.15
MATRIX_LR, VECTOR_LR = 0.004, 1.5e-3
WIDTH = 128
ARCHITECTURE = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    # The usual 0.02 is for widths of thousands; at 128 it lets hardly anything through.
    "initializer_range": WIDTH**-0.5,
}
VICUNA, LLAVA = get_template("vicuna_v1"), get_template("llava_v0")
PLAIN = replace(get_template("plain"), media="inline")
BARE = {"system": "", "system_close": ""}
# Conversation formats and how often each is drawn. Mostly without a system prompt: it costs more than the question.
FORMATS: tuple[tuple[float, Template], ...] = (
    (0.26, replace(VICUNA, **BARE)),
    (0.08, VICUNA),
    (0.14, replace(LLAVA, **BARE)),
    (0.03, LLAVA),
    (0.03, replace(LLAVA.inference, **BARE)),
    (0.10, Template(name="short", user_open="Question:", assistant_open=" Short answer:", eos=True, media_join="")),
    (0.08, Template(name="before", answer_join=" ", eos=True, media="before_bos")),
    (
        0.12,
        Template(
            name="before_short",
            user_open="Question: ",
            assistant_open=" Short answer:",
            answer_join=" ",
            eos=True,
            media="before_bos",
        ),
    ),
    (0.06, Template(name="gpt", user_open="User:", assistant_open=" GPT:", eos=True, media_join="")),
    (0.05, Template(name="inst", user_open="[INST] ", user_close=" [/INST]", answer_join=" ", eos=True)),
    (0.05, Template(name="human", user_open="###Human: ", assistant_open=" ###Assistant:", answer_join=" ", end="###")),
)
# What further formats of the zoo say, so that their words are single tokens.
PROSE = (
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it to you. "
    "Please answer my questions.",
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content that the "
    "user provides, and assist the user with a variety of tasks using natural language.Follow the instructions "
    "carefully and explain your answers in detail based on the provided video.",
    "You are a helpful language and vision assistant. You are able to understand the visual content",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Image: ### Instruction: ### Response: ### Input: Output: Options: Answer: Question: Short answer: region1",
    "The following is a conversation between a curious human and AI assistant. The assistant gives",
    "The <image> provides an overview of the picture. A short image description: A photo of The answer is empty",
)
PIECES = r" ?\d\.\d\d|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """GPT-2's pieces, but two decimals with what stands before the point are one piece."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text is encoded without loss; each word of the world and of the templates is one token, and
    so is each number from 0.00 to 1.00 (a third decimal is one more).

    The merges are learnt on bare words; then each word gets one more merge with the blank before it. Learnt on words
    with their blanks, every word would need its inner merges twice.
    """
    templates = [template for _, template in FORMATS]
    texts = [text for t in templates for text in (t.system, t.user_open, t.user_close, t.assistant_open, t.start)]
    words = [*vocabulary(), *(word for text in (*texts, *PROSE) for word in split(text))]
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    learnt.train_from_iterator(words, trainer)
    numbers = [f"{hundredths / 100:.2f}" for hundredths in range(101)]
    # Before all others: no number may fall apart because one of its digits joined a blank.
    merges = [(number[:place], number[place]) for place in (1, 2, 3) for number in numbers]
    merges += [("Ġ", number) for number in numbers]
    merges += [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["merges"]]
    merges += [("Ġ", word) for word in words if word[0].isalnum()] + [("Ġ", "[")]
    merges = list(dict.fromkeys(merges))
    tokens = dict.fromkeys([*SPECIAL, *alphabet, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer()
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
    pieces = pre_tokenizer().pre_tokenize_str(text)
    return [bare for piece, _ in pieces if (bare := piece.lstrip("ĠĊ"))]


# A position's words, each with its weight.
Facts = list[tuple[str, float]]


@dataclass
class Text:
    """A conversation. Each ``<image>`` of its messages stands for the positions of ``media``, each ``<region>`` for the
    next of ``regions``. ``tasks`` names the task of each answer.
    """

    messages: tuple[Message, ...]
    template: Template
    tasks: tuple[str, ...]
    media: list[Facts] = field(default_factory=list)
    regions: list[Facts] = field(default_factory=list)


def thing_facts(thing: Thing, place: str) -> Facts:
    return [(word, 1.0) for word in f"{language.full_phrase(thing)} {place}".split()]


def image_positions(scene: Scene, draw: Draw, by_cell: bool) -> list[Facts]:
    """A position a cell in reading order; or the objects (some told twice) and a few empty ones in any order."""
    told = {thing.place: thing_facts(thing, thing.place) for thing in scene.things}
    empty = draw.choice(("empty", "place"))
    if by_cell:
        return [told.get(place) or empty_facts(place, empty) for place in PLACES]
    positions = list(told.values())
    positions += [facts for facts in told.values() if draw.coin(0.3)]
    positions += [empty_facts("", "empty") for _ in range(draw.below(6))]
    return draw.shuffled(positions)


def empty_facts(place: str, kind: str) -> Facts:
    return [("empty", 1.0)] if kind == "empty" else [(word, 1.0) for word in place.split()]


def frame_facts(scene: Scene, time: float) -> list[Facts]:
    """What each cell holds at a time; an object between two cells is told in the nearer."""
    cells: list[Facts] = [[] for _ in PLACES]
    for thing, motion in zip(scene.things, scene.motions, strict=True):
        if time >= motion.appears:
            done = motion.progress(time)
            row, column = round(thing.row + done * motion.rows), round(thing.column + done * motion.columns)
            cells[row * GRID + column] = thing_facts(thing, PLACES[row * GRID + column])
    return cells


def track(scene: Scene, draw: Draw) -> str:
    """The way of the object that moves: ``first left, later centre, right.``, or the direction first."""
    ((thing, motion),) = [pair for pair in zip(scene.things, scene.motions, strict=True) if pair[1].direction]
    end = PLACES[(thing.row + motion.rows) * GRID + thing.column + motion.columns]
    ends = f"first {thing.place}, later {end}"
    return f"{motion.direction}, {ends}." if draw.coin() else f"{ends}, {motion.direction}."


def mean_facts(many: Sequence[Facts]) -> Facts:
    return [(word, weight / len(many)) for facts in many for word, weight in facts]


def video_positions(scene: Scene, form: str) -> list[Facts]:
    frames = [frame_facts(scene, number / (NUM_FRAMES - 1)) for number in range(NUM_FRAMES)]
    if form == "cells":
        return [facts or [("empty", 1.0)] for cells in frames for facts in cells]
    return [mean_facts(cells) for cells in frames] + [mean_facts(cells) for cells in zip(*frames, strict=True)]


def statements(scene: Scene, draw: Draw) -> str:
    """Sentences that name an object and tell other things of it: ``the star is red and at the top left.``"""
    told = []
    for _ in range(NUM_STATEMENTS):
        index = draw.below(len(scene.things))
        thing = scene.things[index]
        place = language.at(thing.place)
        named = language.references(scene, index, places=False)
        phrase, given = draw.choice(named) if named and not draw.coin(PLACE_SHARE) else (f"the object {place}", {place})
        rest = [word for word in (thing.size, thing.colour, thing.texture, thing.shape, place) if word not in given]
        shuffled = draw.shuffled(rest)
        told.append(f"{phrase} is {language.join(shuffled[: draw.between(1, len(shuffled))])}.")
    return " ".join(told)


def numerals(draw: Draw) -> str:
    """What size and place say of a box, and the reverse: no facts needed, and the numbers get their meaning."""
    lines = []
    for _ in range(NUM_STATEMENTS):
        thing = draw.choice(draw_scene(draw, "").things)
        box, words = box_text(thing, draw.choice(BOX_FORMS[:2])), f"{thing.size} {thing.place}"
        lines.append(f"{words} {box}" if draw.coin(WORDS_FIRST_SHARE) else f"{box} {thing.place}")
    return "\n".join(lines)


def box_text(thing: Thing, form: str) -> str:
    if form == "three decimals":
        return "[" + ",".join(f"{value:.3f}" for value in thing.extent()) + "]"
    return "[" + ", ".join(f"{value:.2f}" for value in thing.extent()) + "]"


def question_turn(scene: Scene, question: Question, form: str, regions: list[Facts]) -> tuple[str, str]:
    """The question and its answer with their boxes written out; facts of a box given as a position join ``regions``."""
    text, answer = question.text, question.answer
    if question.boxes:
        thing = scene.things[question.boxes[0]]
        if form == "region":
            regions.append(thing_facts(thing, thing.place))
            text = text.replace("<box>", f"region{len(regions)} <region>")
        else:
            text = text.replace("<box>", box_text(thing, form))
    if question.answer_box is not None:
        answer = box_text(scene.things[question.answer_box], form)
    return text, answer


def draw_questions(scene: Scene, draw: Draw, tasks: Sequence[str], number: int) -> list[Question]:
    """1 to ``number`` questions of which none gives away another's answer: all have to be looked up in the facts."""
    told, questions = Told(), []
    attempts = 0
    while len(questions) < number and (attempts < 4 * number or not questions):
        attempts += 1
        question = MAKERS[draw.choice(tasks)](scene, draw, told)
        if question and told.allows(question):
            told.add(question)
            questions.append(question)
    return questions


def draw_format(draw: Draw) -> Template:
    rest = draw.uniform()
    for share, template in FORMATS:
        if rest < share:
            return template
        rest -= share
    return FORMATS[0][1]


def draw_text(seed: int, split: int, index: int, first: bool = False) -> Text:
    """Facts, then statements, a caption or questions about them. Validation asks questions only, about pooled facts.

    ``first``: a text of the first steps, statements and questions about images only.
    """
    draw = Draw(seed, split, STREAM, index)
    template = draw_format(draw)
    if not first and draw.coin(VIDEO_SHARE):
        return draw_video_text(draw, template, split)
    scene = draw_scene(draw, "")
    opening, media, regions = "<image>\n", [], []
    if split == TRAIN and not first and draw.coin(NUMERALS_SHARE):
        return Text(turn_messages([("", numerals(draw))], ""), PLAIN, ("numerals",))
    if split == TRAIN and not first and draw.coin(TEXT_SHARE):
        opening = language.description(scene) + "\n"
    else:
        media = image_positions(scene, draw, split == VALIDATION or draw.coin(0.65))
    if split == TRAIN and draw.coin(FIRST_STATEMENT_SHARE if first else STATEMENT_SHARE):
        turns, template, tasks = [("", statements(scene, draw))], PLAIN, ("statements",)
    elif split == TRAIN and not first and draw.coin(CAPTION_SHARE):
        # As in the align stage: the caption right behind the facts.
        turns, template, tasks = [("", caption_turn(scene, draw)[1])], PLAIN, ("caption",)
        opening = opening.removesuffix("\n")
    elif not first and draw.coin(REGION_SHARE):
        form = draw.choice(BOX_FORMS)
        questions = draw_questions(scene, draw, REGION_TASKS, NUM_QUESTIONS)
        turns = [question_turn(scene, question, form, regions) for question in questions]
        tasks = tuple(f"{question.task}, {form}" for question in questions)
        if "Human" in template.user_open and draw.coin():
            opening = "The <image> provides an overview of the picture.\n"
            template = replace(template, media="inline")
    else:
        questions = draw_questions(scene, draw, IMAGE_TASKS, NUM_QUESTIONS)
        turns, tasks = [(q.text, q.answer) for q in questions], tuple(q.task for q in questions)
    return Text(turn_messages(turns, opening), template, tasks, media, regions)


def draw_video_text(draw: Draw, template: Template, split: int) -> Text:
    """A video with one moving object: where it moves, and what else can be asked about its objects."""
    form = draw.choice(VIDEO_FORMS)
    single = split == TRAIN and draw.coin(SINGLE_SHARE)
    while True:
        scene = draw_video(draw, "", movers=1)
        if single and len(scene.things) > 1:
            continue
        question = motion_direction(scene, draw, Told())
        if question is not None:
            break
    turns, tasks = [(question.text, question.answer)], [f"motion_direction, {form}"]
    if split == TRAIN and draw.coin(VIDEO_CAPTION_SHARE):
        messages = turn_messages([("", caption_turn(scene, draw)[1])], "<image>")
        return Text(messages, PLAIN, ("video_caption",), video_positions(scene, form))
    if split == TRAIN and draw.coin(TRACK_SHARE):
        messages = turn_messages([("", track(scene, draw))], "<image>")
        return Text(messages, PLAIN, ("track",), video_positions(scene, form))
    return Text(turn_messages(turns, "<image>\n"), template, tuple(tasks), video_positions(scene, form))


@dataclass
class Row:
    """``ids`` and ``labels`` of a text; ``soft`` marks its pooled positions, whose words and weights are ``facts``."""

    ids: list[int]
    labels: list[int]
    soft: list[bool]
    facts: list[tuple[list[int], list[float]]]
    tasks: tuple[str, ...]
    weight: float = 1.0


class Encoder:
    """Texts to rows. Pieces of text are tokenised once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.tokens = lru_cache(maxsize=100_000)(lambda text: tokenizer(text)["input_ids"])

    def __call__(self, text: Text) -> Row:
        row = Row([], [], [], [], text.tasks, PROSE_WEIGHT if text.tasks[0] in ("statements", "caption") else 1.0)
        regions = iter(text.regions)
        pending = ""

        def flush(supervised: bool) -> None:
            nonlocal pending
            for piece in re.split("(<image>|<region>)", pending):
                if piece in ("<image>", "<region>") and text.media:
                    positions = text.media if piece == "<image>" else [next(regions)]
                    row.facts += [self.words(facts) for facts in positions]
                    ids, soft = [0] * len(positions), True
                else:
                    ids, soft = self.tokens(piece), False
                self.add(row, ids, supervised, soft)
            pending = ""

        last = False
        for segment in text.template.render(text.messages):
            if segment.token or segment.supervised != last:
                flush(last)
            last = segment.supervised
            if segment.token:
                token = self.tokenizer.bos_token_id if segment.token == "bos" else self.tokenizer.eos_token_id
                self.add(row, [token], segment.supervised, False)
            pending += segment.text
        flush(last)
        return row

    def words(self, facts: Facts) -> tuple[list[int], list[float]]:
        return [self.tokens(f" {word}")[0] for word, _ in facts], [weight * WORD_WEIGHT for _, weight in facts]

    @staticmethod
    def add(row: Row, ids: Sequence[int], supervised: bool, soft: bool) -> None:
        row.ids += ids
        row.labels += ids if supervised else [IGNORED] * len(ids)
        row.soft += [soft] * len(ids)


@dataclass
class Rows:
    """A batch, padded on the right.

    ``words``, ``weights`` and ``owners``: the words of all pooled positions, flat, with the position that each belongs
    to; ``texts``: the row of each pooled position; ``loss_weights``: one for each supervised token.
    """

    ids: Tensor
    labels: Tensor
    soft: Tensor
    words: Tensor
    weights: Tensor
    owners: Tensor
    texts: Tensor
    loss_weights: Tensor


def collate(rows: Sequence[Row], pad_id: int) -> Rows:
    length = max(len(row.ids) for row in rows)

    def padded(name: str, filler: int) -> Tensor:
        return torch.tensor([[*getattr(row, name), *[filler] * (length - len(row.ids))] for row in rows])

    facts = [entry for row in rows for entry in row.facts]
    return Rows(
        ids=padded("ids", pad_id),
        labels=padded("labels", IGNORED),
        soft=padded("soft", 0).bool(),
        words=torch.tensor([word for words, _ in facts for word in words], dtype=torch.long),
        weights=torch.tensor([weight for _, weights in facts for weight in weights]),
        owners=torch.tensor([index for index, (words, _) in enumerate(facts) for _ in words], dtype=torch.long),
        texts=torch.tensor([index for index, row in enumerate(rows) for _ in row.facts], dtype=torch.long),
        loss_weights=torch.tensor([row.weight for row in rows for label in row.labels[1:] if label != IGNORED]),
    )


def embed(model: LlamaForCausalLM, batch: Rows, noisy: bool) -> Tensor:
    """Word embeddings; at pooled positions the weighted sum of their words', disturbed while training."""
    table = model.get_input_embeddings()
    embeddings = table(batch.ids)
    if not len(batch.texts):
        return embeddings
    words = table(batch.words) * batch.weights[:, None]
    pooled = embeddings.new_zeros(len(batch.texts), WIDTH).index_add(0, batch.owners, words)
    if noisy:
        size = 0.5 * WORD_WEIGHT * 6**0.5
        num_texts = len(batch.ids)
        offsets = size * MAX_OFFSET * torch.rand(num_texts, 1) ** 2 * torch.randn(num_texts, WIDTH)
        scales = torch.empty(num_texts, 1).uniform_(-0.7, 0.5).exp()
        levels = NOISE * size * torch.rand(num_texts, 1)
        # Means of a video are small: noise and offset must not drown them.
        weights = embeddings.new_zeros(len(batch.texts)).index_add(0, batch.owners, batch.weights**2)
        small = (weights.sqrt() / (WORD_WEIGHT * 6**0.5)).clamp(max=1)[:, None]
        disturbance = offsets[batch.texts] + levels[batch.texts] * torch.randn_like(pooled)
        pooled = scales[batch.texts] * (pooled + small * disturbance)
    return embeddings.masked_scatter(batch.soft[..., None], pooled)


def answer_logits(model: LlamaForCausalLM, batch: Rows, noisy: bool = False) -> tuple[Tensor, Tensor]:
    """Logits (supervised tokens, vocabulary) and their targets."""
    hidden = model.model(inputs_embeds=embed(model, batch, noisy), use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:]
    supervised = targets != IGNORED
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


def smooth_numbers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Give near numbers like rows, with and without a blank: a hundred unrelated ones would be learnt one by one."""
    frequencies, phases = 10 * torch.randn(WIDTH), 2 * torch.pi * torch.rand(WIDTH)
    for hundredths in range(101):
        curve = torch.cos(hundredths / 100 * frequencies + phases)
        for token in (f"{hundredths / 100:.2f}", f"Ġ{hundredths / 100:.2f}"):
            row = tokenizer.convert_tokens_to_ids(token)
            model.get_input_embeddings().weight[row] = 0.5 * 2**0.5 * curve
            model.lm_head.weight[row] = 0.1 * 2**0.5 * WIDTH**-0.5 * curve


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
        smooth_numbers(model, tokenizer)
    return model


def continued(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, start: Path) -> None:
    """Copy the weights of an earlier model: tokens by their spelling, layers by their number. Layers that it lacks stay
    new, and new layers change nothing at first.
    """
    earlier = LlamaForCausalLM.from_pretrained(start)
    old, new = (t.get_vocab() for t in (PreTrainedTokenizerFast.from_pretrained(start), tokenizer))
    shared = [token for token in new if token in old]
    rows, old_rows = (torch.tensor([vocab[token] for token in shared]) for vocab in (new, old))
    weights = earlier.state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_tokens" in name or "lm_head" in name:
                parameter[rows] = weights[name][old_rows]
            elif name in weights:
                parameter.copy_(weights[name])


def train(
    seed: int, tokenizer: PreTrainedTokenizerFast, steps: int, out: Path | None = None, start: Path | None = None
) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = new_model(tokenizer)
    if start:
        continued(model, tokenizer, start)
    first_steps = 0 if start else FIRST_STEPS
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers" in name)]
    optimizers = [Muon(matrices, MATRIX_LR), torch.optim.AdamW(others, lr=VECTOR_LR, betas=(0.9, 0.98), weight_decay=0)]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    order = np.random.Generator(np.random.PCG64(seed))
    encoder = Encoder(tokenizer)
    chunks: list[list[Row]] = []
    mean = 0.0
    for step in range(steps):
        if not chunks:  # texts of similar length share a batch
            first = step * BATCH
            easy = step < first_steps
            drawn = [encoder(draw_text(seed, TRAIN, first + i, easy)) for i in range(8 * BATCH)]
            drawn.sort(key=lambda row: len(row.ids))
            chunks = [drawn[place * BATCH : (place + 1) * BATCH] for place in order.permutation(8)]
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * min(1, (step + 1) / WARM_UP) * min(1, 2 * (1 - step / steps))
            optimizer.zero_grad()
        batch = collate(chunks.pop(), tokenizer.pad_token_id)
        losses = functional.cross_entropy(*answer_logits(model, batch, noisy=step >= first_steps), reduction="none")
        loss = (losses * batch.loss_weights).sum() / batch.loss_weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        mean += float(loss.detach()) / 100
        if step % 100 == 99:
            print(f"step {step + 1} loss {mean:.4f} cpu {time.process_time():.0f} s", flush=True)
            mean = 0.0
        if step % 250 == 249:
            print(measure(model, tokenizer, seed, 150), flush=True)
            if out:
                model.save_pretrained(out)
    return model.eval()


@torch.no_grad()
def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, num: int = 600) -> dict[str, float]:
    """The part of answers, by task, whose every token is the likeliest one, given facts of scenes never trained on.

    A box is right if what the likeliest tokens say, each given the right ones before it, has an IoU of 0.5 or more.
    """
    right: dict[str, list[bool]] = {}
    encoder = Encoder(tokenizer)
    for index in range(num):
        row = encoder(draw_text(seed, VALIDATION, index))
        logits, targets = answer_logits(model, collate([row], tokenizer.pad_token_id))
        best = logits.argmax(-1)
        positions = [place for place, label in enumerate(row.labels) if label != IGNORED]
        starts = [i for i, place in enumerate(positions) if not i or place != positions[i - 1] + 1]
        for task, start, stop in zip(row.tasks, starts, [*starts[1:], len(positions)], strict=True):
            told, expected = best[start:stop], targets[start:stop]
            if "locate" in task:
                hit = overlap(tokenizer.decode(told), tokenizer.decode(expected)) >= 0.5
            else:
                hit = bool((told == expected).all())
            right.setdefault(task, []).append(hit)
    return {task: round(float(np.mean(values)), 3) for task, values in sorted(right.items())}


def overlap(told: str, expected: str) -> float:
    """IoU of the boxes of two texts; 0 where one of them holds no four numbers."""
    first, second = (np.array([float(n) for n in re.findall(r"\d\.\d+", text)]) for text in (told, expected))
    if len(first) != 4 or len(second) != 4:
        return 0.0
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(sides.clip(0)))
    areas = [float(np.prod((box[2:] - box[:2]).clip(0))) for box in (first, second)]
    return shared / max(sum(areas) - shared, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--start", type=Path, help="folder of an earlier model to go on from")
    options = parser.parse_args()
    # One thread, so that the sums are made in the same order wherever the script runs.
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(options.out)
    model = train(options.seed, tokenizer, options.steps, options.out, options.start)
    print(f"right answers from pooled facts: {measure(model, tokenizer, options.seed)}")
    print(f"{time.process_time():.0f} CPU seconds")
    model.save_pretrained(options.out)


if __name__ == "__main__":
    main()
