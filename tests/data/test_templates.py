"""Templates as strings, and the exactness of ids and labels over templates x tokenizers x conversations."""

import io
import random
import re

import pytest
import sentencepiece
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken, ByT5Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from zoo.data.encode import IGNORED_LABEL, MEDIA_ID, encode, stop_ids, stop_strings
from zoo.data.sample import PLACEHOLDER_PATTERN, Box, Medium, Message, Sample
from zoo.data.template import render_text
from zoo.data.templates import TEMPLATES, get_template
from zoo.errors import ZooError

WORDS = (
    "the cat sat on a red mat USER: ASSISTANT: chat between curious human user and an artificial intelligence "
    "assistant gives helpful polite answers question what colour is blue green ### Human: [INST] [/INST] . , ?"
).split()
TOKENIZERS = ("bytes", "llama", "llama_legacy", "words", "words_without_bos", "byt5")
LOSSLESS = ("bytes", "llama", "llama_legacy", "byt5")


def corpus():
    chooser = random.Random(0)
    return [" ".join(chooser.choices(WORDS, k=12)) for _ in range(300)]


def byte_level():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    core.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def word_level(bos):
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<s>", "</s>", "<unk>"] if bos else ["<pad>", "</s>", "<unk>"]
    core.train_from_iterator(corpus(), trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"} | ({"bos_token": "<s>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


@pytest.fixture(scope="module")
def sentencepiece_folder(tmp_path_factory):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=450,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=2,
    )
    folder = tmp_path_factory.mktemp("llama")
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="module")
def tokenizers(sentencepiece_folder):
    return {
        "bytes": byte_level(),
        "llama": LlamaTokenizer.from_pretrained(sentencepiece_folder, legacy=False),
        "llama_legacy": LlamaTokenizer.from_pretrained(sentencepiece_folder, legacy=True),
        "words": word_level(bos=True),
        "words_without_bos": word_level(bos=False),
        "byt5": ByT5Tokenizer(extra_ids=3),
    }


def sample_of(*contents, system=None, supervised=None, boxes=()):
    """Turns by user and assistant; ``supervised`` holds a flag for each answer."""
    messages = [Message(role="system", content=system)] if system is not None else []
    for index, content in enumerate(contents):
        is_answer = index % 2 == 1
        flag = supervised[index // 2] if supervised is not None and is_answer else True
        messages.append(Message(role="assistant" if is_answer else "user", content=content, supervised=flag))
    kinds = re.findall("<(image|video)>", " ".join(contents))
    media = tuple(Medium(kind=kind, source="none") for kind in kinds)
    return Sample(id="s1", messages=tuple(messages), media=media, boxes=tuple(boxes))


def supervised_runs(encoded):
    runs, previous = [], -2
    for position in (encoded.labels != IGNORED_LABEL).nonzero().flatten().tolist():
        if position != previous + 1:
            runs.append([])
        runs[-1].append(int(encoded.ids[position]))
        previous = position
    return runs


def special_ids(tokenizer):
    ids = set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return ids - {tokenizer.unk_token_id}


HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
USER = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAMA_2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
VIDEO_CHATGPT = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content that the "
    "user provides, and assist the user with a variety of tasks using natural language.Follow the instructions "
    "carefully and explain your answers in detail based on the provided video."
)
VIDEO_LLAMA = (
    "You are able to understand the visual content that the user provides. Follow the instructions carefully and "
    "explain your answers in detail."
)
MPT = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."
# name: (training string, generation string) of the conversation q1 with an image, a1, q2, a2.
GOLDEN = {
    "plain": ("<s><image>a1\na2\n", "<s><image>a1\n"),
    "llava_v0": (
        f"<s>{HUMAN}\n\n### Human: <image>\nq1\n### Assistant: a1\n### Human: q2\n### Assistant: a2\n### ",
        f"<s>{HUMAN}###Human: <image>\nq1###Assistant: a1###Human: q2###Assistant:",
    ),
    "vicuna_v1": (
        f"<s>{USER} USER: <image>\nq1 ASSISTANT: a1</s>USER: q2 ASSISTANT: a2</s>",
        f"<s>{USER} USER: <image>\nq1 ASSISTANT: a1</s>USER: q2 ASSISTANT:",
    ),
    "llava_v1": (
        f"<s>{HUMAN} USER: <image>\nq1 ASSISTANT: a1</s>USER: q2 ASSISTANT: a2</s>",
        f"<s>{HUMAN} USER: <image>\nq1 ASSISTANT: a1</s>USER: q2 ASSISTANT:",
    ),
    "llama_2": (
        f"<s>[INST] <<SYS>>\n{LLAMA_2}\n<</SYS>>\n\n<image>\nq1 [/INST] a1 </s><s>[INST] q2 [/INST] a2 </s>",
        f"<s>[INST] <<SYS>>\n{LLAMA_2}\n<</SYS>>\n\n<image>\nq1 [/INST] a1 </s><s>[INST] q2 [/INST]",
    ),
    "mistral_instruct": (
        "<s>[INST] <image>\nq1 [/INST] a1 </s>[INST] q2 [/INST] a2 </s>",
        "<s>[INST] <image>\nq1 [/INST] a1 </s>[INST] q2 [/INST]",
    ),
    "chatml": (
        "<s><|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nq1 <image><|im_end|>\n"
        "<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\na2<|im_end|>\n",
        "<s><|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nq1 <image><|im_end|>\n"
        "<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml_direct": (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nq1<|im_end|>"
        "<|im_start|>assistant\na1<|im_end|><|im_start|>user\nq2<|im_end|><|im_start|>assistant\na2<|im_end|>",
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nq1<|im_end|>"
        "<|im_start|>assistant\na1<|im_end|><|im_start|>user\nq2<|im_end|><|im_start|>assistant\n",
    ),
    "mpt": (
        f"<|im_start|>system\n{MPT}<|im_end|><|im_start|>user\n<image>\nq1<|im_end|>"
        "<|im_start|>assistant\na1<|im_end|><|im_start|>user\nq2<|im_end|><|im_start|>assistant\na2<|im_end|>",
        f"<|im_start|>system\n{MPT}<|im_end|><|im_start|>user\n<image>\nq1<|im_end|>"
        "<|im_start|>assistant\na1<|im_end|><|im_start|>user\nq2<|im_end|><|im_start|>assistant\n",
    ),
    "shikra": (
        f"<s>{USER} USER: q1 <image> ASSISTANT: a1</s>USER: q2 ASSISTANT: a2</s>",
        f"<s>{USER} USER: q1 <image> ASSISTANT: a1</s>USER: q2 ASSISTANT:",
    ),
    "gpt4roi": (
        f"<s>{HUMAN}\n\n### Human: <image>\nq1\n### Assistant: a1\n### Human: q2\n### Assistant: a2\n### ",
        f"<s>{HUMAN}\n\n### Human: <image>\nq1\n### Assistant: a1\n### Human: q2\n### Assistant:",
    ),
    "kosmos_2": (
        "<s><image><grounding> Question: q1 Answer: a1</s><grounding> Question: q2 Answer: a2</s>",
        "<s><image><grounding> Question: q1 Answer: a1</s><grounding> Question: q2 Answer:",
    ),
    "openflamingo": (
        "<s><image>Question:q1 Short answer: a1<|endofchunk|>Question:q2 Short answer: a2<|endofchunk|>",
        "<s><image>Question:q1 Short answer:a1<|endofchunk|>Question:q2 Short answer:",
    ),
    "openflamingo_caption": ("<s><image>a1<|endofchunk|>a2<|endofchunk|>", "<s><image>a1<|endofchunk|>"),
    "openflamingo_document": ("<s>q1 <image>a1<|endofchunk|>q2a2<|endofchunk|>", "<s>q1 <image>a1<|endofchunk|>q2"),
    "otter": (
        "<s><image>User:q1 GPT:<answer>a1<|endofchunk|>User:q2 GPT:<answer>a2<|endofchunk|>",
        "<s><image>User:q1 GPT:<answer>a1<|endofchunk|>User:q2 GPT:<answer>",
    ),
    "idefics": (
        "<s>User:<image>q1<end_of_utterance>\nAssistant: a1<end_of_utterance>\n"
        "User:q2<end_of_utterance>\nAssistant: a2<end_of_utterance>\n",
        "<s>User:<image>q1<end_of_utterance>\nAssistant: a1<end_of_utterance>\nUser:q2<end_of_utterance>\nAssistant:",
    ),
    "idefics_base": (
        "<s>User:<image>q1\nAssistant: a1\nUser:q2\nAssistant: a2\n",
        "<s>User:<image>q1\nAssistant: a1\nUser:q2\nAssistant:",
    ),
    "idefics_document": ("<s>q1 <image>a1</s>q2a2</s>", "<s>q1 <image>a1</s>q2"),
    "blip2_opt_caption": ("<image><s>a1\na2\n", "<image><s>a1\n"),
    "blip2_t5_caption": ("<image>a1</s>a2</s>", "<image>a1</s>"),
    "blip2_opt": (
        "<image><s>Question: q1 Answer: a1\nQuestion: q2 Answer: a2\n",
        "<image><s>Question: q1 Answer: a1\nQuestion: q2 Answer:",
    ),
    "blip2_t5": (
        "<image>Question: q1 Answer:a1</s>Question: q2 Answer:a2</s>",
        "<image>Question: q1 Answer:a1</s>Question: q2 Answer:",
    ),
    "instructblip": ("<image></s>q1 a1</s>q2 a2</s>", "<image></s>q1 a1</s>q2"),
    "instructblip_t5": ("<image>q1a1</s>q2a2</s>", "<image>q1a1</s>q2"),
    "florence_2": ("<image><s>q1a1</s>q2a2</s>", "<image><s>q1a1</s>q2"),
    "paligemma": ("<image><s>q1\na1</s>q2\na2</s>", "<image><s>q1\na1</s>q2\n"),
    "video_chatgpt": (
        f"<s>{USER} USER: q1 <image> ASSISTANT: a1</s>USER: q2 ASSISTANT: a2</s>",
        f"<s>{VIDEO_CHATGPT} USER: q1\n<image> ASSISTANT: a1</s>USER: q2 ASSISTANT:",
    ),
    "video_llama": (
        "<s>\n\n###Human: <image>q1\n###Assistant: a1\n###Human: q2\n###Assistant: a2\n###",
        f"<s>{VIDEO_LLAMA}###Human: <image>q1###Assistant: a1###Human: q2###Assistant:",
    ),
    "chat_univi": (
        f"<s>{USER} USER: <image>\nq1 ASSISTANT: a1</s>USER: q2 ASSISTANT: a2</s>",
        f"<s>{HUMAN}###Human: Hi!###Assistant: Hi there! How can I help you today?###Human: <image>\nq1###Assistant: a1"
        "###Human: q2###Assistant:",
    ),
    "qwen_vl": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nq1<|im_end|>\n"
        "<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\na2<|im_end|>\n",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nq1<|im_end|>\n"
        "<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen_vl_caption": (
        "<image>Generate the caption in English: a1</s>Generate the caption in English: a2</s>",
        "<image>Generate the caption in English: a1</s>Generate the caption in English:",
    ),
    "minigpt_v2": (
        "<s>[INST] <image> q1 [/INST] a1</s><s>[INST] q2 [/INST] a2</s>",
        "<s>[INST] <image> q1 [/INST] a1</s><s>[INST] q2 [/INST]",
    ),
    "minigpt_4": (
        "<s>###Human: <image> q1 ###Assistant:  a1###Human: q2 ###Assistant:  a2###",
        "<s>Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it to "
        "you. Please answer my questions.###Human: <image> q1###Assistant:  a1###Human: q2###Assistant: ",
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_strings(name):
    messages = sample_of("q1 <image>", "a1", "q2", "a2").messages
    training, generation = GOLDEN[name]
    assert render_text(get_template(name).render(messages)) == training
    assert render_text(get_template(name).render(messages, generation=True)) == generation
    assert render_text(get_template(name).render(messages[:-1], generation=True)) == generation


def test_system_message_replaces_the_default():
    messages = sample_of("q", "a", system="Be brief.").messages
    assert render_text(TEMPLATES["vicuna_v1"].render(messages)) == "<s>Be brief. USER: q ASSISTANT: a</s>"
    assert "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nq [/INST]" in render_text(
        TEMPLATES["mistral_instruct"].render(messages)
    )
    empty = sample_of("q", "a", system="").messages
    assert render_text(TEMPLATES["vicuna_v1"].render(empty)) == "<s>USER: q ASSISTANT: a</s>"


def test_media_placement():
    several = sample_of("left <image> or right <image>?", "left").messages
    assert "USER: left <image> or right <image>? ASS" in render_text(TEMPLATES["vicuna_v1"].render(several))
    alone = sample_of("<video>\n", "yes").messages
    assert "USER: <video> ASSISTANT:" in render_text(TEMPLATES["vicuna_v1"].render(alone))


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("openflamingo", "<image>\nq", ["I", "Question:q Short answer:"]),
        ("openflamingo", "see <image>?", ["I", "Question:see ? Short answer:"]),
        ("openflamingo", "<image> or <image>?", ["Question:", "I", " or ", "I", "? Short answer:"]),
        ("otter", "<image>q", ["I", "User:q GPT:", "A"]),
        ("idefics", "<image>q", ["User:", "F", "I", "F", "q", "E", "\nAssistant:"]),
        ("idefics", "<image><image>q", ["User:", "F", "I", "F", "I", "F", "q", "E", "\nAssistant:"]),
        ("idefics", "<image> <image>", ["User:", "F", "I", "F", " ", "F", "I", "F", "E", "\nAssistant:"]),
    ],
)
def test_marks_of_cross_attention(name, text, ids):
    tokenizer = byte_level()
    marks = {"I": "<image>", "F": "<fake_token_around_image>", "E": "<end_of_utterance>", "A": "<answer>"}
    tokenizer.add_tokens([AddedToken(mark, special=True) for mark in marks.values()], special_tokens=True)
    num_images = text.count("<image>")
    encoded = encode(sample_of(text), TEMPLATES[name], tokenizer, num_media_tokens=[0] * num_images, generation=True)
    expected = "".join(marks.get(piece, piece) for piece in ids)
    assert tokenizer.decode(encoded.ids[1:]) == expected
    image = tokenizer.convert_tokens_to_ids("<image>")
    # A medium begins at its <image>.
    assert [start for start, _ in encoded.media_runs] == (encoded.ids == image).nonzero()[:, 0].tolist()
    assert not encoded.media_mask.any() and len(encoded.media_runs) == num_images


@pytest.mark.parametrize(
    "roles",
    [
        ("assistant",),
        ("user", "user"),
        ("user", "system", "assistant"),
        ("system",),
        ("user", "assistant") * 2 + ("assistant",),
    ],
)
def test_roles_that_make_no_conversation(roles):
    with pytest.raises(ZooError, match=r"sample 's1': roles .* make no conversation"):
        TEMPLATES["plain"].render([Message(role=role, content="x") for role in roles], sample_id="s1")


def test_unknown_template_names_the_nearest():
    with pytest.raises(ZooError, match=r"unknown template 'vicuna'\. Did you mean 'vicuna_v1'"):
        get_template("vicuna")


FRAGMENTS = st.sampled_from(
    (
        *WORDS,
        " ",
        "  ",
        "\n",
        "\n\n",
        "</s>",
        "<s>",
        "<|im_end|>",
        "<|im_start|>",
        "<pad>",
        "</S>",
        "###",
        ":",
        "<",
        "☃",
        "é",
    )
)
TEXT = st.one_of(
    st.lists(FRAGMENTS, max_size=6).map("".join),
    st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join),
    # "▁" is how SentencePiece spells a blank: it does not survive a round trip there.
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="▁"), max_size=8),
).filter(lambda text: not PLACEHOLDER_PATTERN.search(text))


@st.composite
def conversations(draw):
    """Rounds of (pieces of the question with a medium between each two, answer, supervised); perhaps a system text."""
    rounds = draw(
        st.lists(
            st.tuples(
                st.lists(TEXT, min_size=2, max_size=3), st.sampled_from(("<image>", "<video>")), TEXT, st.booleans()
            ),
            min_size=1,
            max_size=3,
        )
    )
    system = draw(st.none() | TEXT)
    contents = [part for pieces, mark, answer, _ in rounds for part in (mark.join(pieces), answer)]
    sample = sample_of(*contents, system=system, supervised=[flag for *_, flag in rounds])
    return sample, [draw(st.integers(1, 4)) for _ in sample.media]


def side_by_side(template, tokenizer, messages):
    """The supervised answers; those without a token between them, which are one supervised run, in one list."""
    turns = [message for message in messages if message.role != "system"]
    groups, between, last = [], [], -1
    for segment in template.render(messages):
        if not segment.supervised:
            between.append(segment)
            continue
        if segment.turn != last:
            parted = any(piece.token or PLACEHOLDER_PATTERN.search(piece.text) for piece in between)
            written = "".join(piece.text for piece in between)
            if not groups or parted or tokenizer(written, add_special_tokens=False)["input_ids"]:
                groups.append([])
            groups[-1].append(turns[segment.turn].content)
        last, between = segment.turn, []
    return groups


def says(tokenizer, ids, text):
    decoded = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    # SentencePiece decoding drops the one blank that begins a text.
    return decoded == text or (isinstance(tokenizer, LlamaTokenizer) and " " + decoded == text)


def check_labels(template, kind, tokenizer, sample, num_media_tokens):
    encoded = encode(sample, template, tokenizer, num_media_tokens=num_media_tokens)
    ids, labels = encoded.ids.tolist(), encoded.labels.tolist()
    answers = [message for message in sample.messages if message.role == "assistant"]

    # Media: exactly the runs asked for, nowhere else, never supervised.
    assert [length for _, length in encoded.media_runs] == num_media_tokens
    positions = [start + offset for start, length in encoded.media_runs for offset in range(length)]
    assert encoded.media_mask.nonzero().flatten().tolist() == positions
    assert [index for index, token in enumerate(ids) if token == MEDIA_ID] == positions
    assert all(labels[position] == IGNORED_LABEL for position in positions)
    assert all(label in (IGNORED_LABEL, token) for token, label in zip(ids, labels, strict=True))

    # Special tokens: from the template only. Some methods put the media before everything, BOS too.
    first = sum(num_media_tokens) if template.media.endswith("before_bos") else 0
    begins_with_eos = template.bos and template.bos_is_eos
    num_bos = (len(answers) if template.bos_every_round else 1) if template.bos and not begins_with_eos else 0
    if tokenizer.bos_token_id is not None:
        assert ids.count(tokenizer.bos_token_id) == num_bos
        assert not num_bos or ids[first] == tokenizer.bos_token_id
    # Words spell neither newlines nor "<|im_end|>", and "###" only where a newline parts it from a full stop.
    end_is_eos = template.eos or (kind.startswith("words") and "\n###" not in template.end)
    assert ids.count(tokenizer.eos_token_id) == (len(answers) if end_is_eos else 0) + begins_with_eos
    assert not begins_with_eos or ids[first] == tokenizer.eos_token_id

    # Supervision: one run for each supervised answer, which says the answer and its end, to the last character.
    runs = supervised_runs(encoded)
    groups = side_by_side(template, tokenizer, sample.messages)
    assert sum(map(len, groups)) == sum(answer.supervised for answer in answers)
    assert len(runs) == len(groups)
    assert encoded.num_supervised == encoded.num_supervised_before_truncation == sum(map(len, runs))
    end = "</s>" if end_is_eos else template.end
    for group, run in zip(groups, runs, strict=True):
        if kind in LOSSLESS:
            num_special = sum(token in special_ids(tokenizer) for token in run)
            assert num_special == len(group) * (end_is_eos or (kind == "bytes" and bool(template.marks)))
            for index, answer in enumerate(group):
                closing = template.end + "</s>" if template.eos else end
                expected = (template.answer_join if answer else "") + answer + closing
                lengths = range(1, len(run) + 1) if index + 1 < len(group) else (len(run),)
                length = next((n for n in lengths if says(tokenizer, run[:n], expected)), 0)
                assert length, f"{tokenizer.decode(run)!r} does not begin with {expected!r}"
                run = run[length:]
        elif end_is_eos:
            assert sum(token in special_ids(tokenizer) for token in run) == len(group)
            for answer in group:
                cut = run.index(tokenizer.eos_token_id)
                if not any(token.lower() in answer.lower() for token in tokenizer.all_special_tokens):
                    assert run[:cut] == tokenizer(answer, add_special_tokens=False)["input_ids"]
                run = run[cut + 1 :]
            assert not run
        else:
            assert len(group) == 1
            assert run[-1:] == tokenizer(end, add_special_tokens=False)["input_ids"]
            assert not special_ids(tokenizer) & set(run)

    # A generation prompt is what stands before the last answer (v0 asks with another string than it trains on).
    if template.inference is None and answers[-1].supervised:
        prompt = encode(sample, template, tokenizer, num_media_tokens=num_media_tokens, generation=True)
        assert prompt.ids.tolist() == ids[: len(prompt.ids)]
        assert labels[len(prompt.ids)] != IGNORED_LABEL
        supervised = [label for label in labels[len(prompt.ids) :] if label != IGNORED_LABEL]
        assert supervised == runs[-1][-len(supervised) :]
        assert supervised == runs[-1] or len(groups[-1]) > 1


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None, derandomize=True)
@given(conversation=conversations())
def test_supervised_ids_are_the_answers_and_their_end(tokenizers, name, conversation):
    for kind in TOKENIZERS:
        note(kind)
        check_labels(TEMPLATES[name], kind, tokenizers[kind], *conversation)


def test_an_answer_behind_another_keeps_its_end():
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    special = ["<unk>", "<s>", "</s>"]
    core.train_from_iterator(["\n\n", "a b"], trainers.BpeTrainer(special_tokens=special, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    assert len(tokenizer("\n\n")["input_ids"]) == 1
    encoded = encode(sample_of("", "a", "", "\nb"), TEMPLATES["plain"], tokenizer, num_media_tokens=[])
    assert tokenizer.convert_ids_to_tokens(encoded.ids) == ["<s>", "a", "\n", "\n", "b", "\n"]


def test_media_before_everything_are_in_no_turn(tokenizers):
    sample = sample_of("<image>q", "see <video>a")
    assert render_text(TEMPLATES["blip2_opt"].render(sample.messages)).startswith("<image><video><s>Question: q Answer")
    encoded = encode(sample, TEMPLATES["blip2_opt"], tokenizers["bytes"], num_media_tokens=[2, 3])
    assert encoded.media_runs == ((0, 2), (2, 3))


def official(prompt, tokenizer):
    """LLaVA's tokenizer_image_token: every chunk by itself with special tokens read, one BOS."""
    ids = [tokenizer.bos_token_id]
    for index, chunk in enumerate(prompt.split("<image>")):
        ids += [MEDIA_ID] * (index > 0) + tokenizer(chunk, add_special_tokens=False)["input_ids"]
    return ids


def official_v1_labels(prompt, tokenizer):
    """LLaVA's preprocess_v1, which finds the mask by the lengths of rounds tokenised once more."""
    ids = official(prompt, tokenizer)
    labels, position = list(ids), 1
    labels[0] = IGNORED_LABEL
    for whole in prompt.split("</s>")[:-1]:
        num_instruction = len(official(whole.split(" ASSISTANT: ")[0] + " ASSISTANT: ", tokenizer)) - 2
        labels[position : position + num_instruction] = [IGNORED_LABEL] * num_instruction
        position += len(official(whole, tokenizer))
    assert position == len(ids), "tokenization mismatch"
    return [IGNORED_LABEL if label == MEDIA_ID else label for label in labels]


SENTENCE = st.lists(st.sampled_from(("cat", "The", "mat,", "is", "red?", "☃", "colour\nof", "7")), min_size=1).map(
    " ".join
)


@pytest.mark.parametrize("kind", ["llama", "llama_legacy"])
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(rounds=st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=3), image=st.booleans())
def test_ids_and_labels_of_the_official_code(tokenizers, kind, rounds, image):
    tokenizer = tokenizers[kind]
    front = "<image>\n" if image else ""
    sample = sample_of(*[text for pair in rounds for text in pair])
    if image:
        sample = sample_of(front + rounds[0][0], *[text for pair in rounds for text in pair][1:])
    num_media_tokens = [1] * image
    prompt = f"{USER} USER: {front}" + "USER: ".join(
        f"{question} ASSISTANT: {answer}</s>" for question, answer in rounds
    )
    ours = encode(sample, TEMPLATES["vicuna_v1"], tokenizer, num_media_tokens=num_media_tokens)
    assert ours.ids.tolist() == official(prompt, tokenizer)
    # Later rounds of other than legacy tokenizers: the official code corrects by one token, right for Llama's own
    # vocabulary ("▁US" "ER" against "USER") and a "tokenization mismatch" elsewhere.
    if tokenizer.legacy or len(rounds) == 1:
        assert ours.labels.tolist() == official_v1_labels(prompt, tokenizer)

    system = f"<<SYS>>\n{LLAMA_2}\n<</SYS>>\n\n"
    prompt = f"[INST] {system}{front}" + "<s>[INST] ".join(
        f"{question} [/INST] {answer} </s>" for question, answer in rounds
    )
    ours = encode(sample, TEMPLATES["llama_2"], tokenizer, num_media_tokens=num_media_tokens)
    assert ours.ids.tolist() == official(prompt, tokenizer)

    prompt = f"{HUMAN}\n\n### Human: {front}" + "### Human: ".join(
        f"{question}\n### Assistant: {answer}\n" for question, answer in rounds
    )
    ours = encode(sample, TEMPLATES["llava_v0"], tokenizer, num_media_tokens=num_media_tokens)
    assert ours.ids.tolist() == official(prompt + "### ", tokenizer)

    caption = encode(sample_of("Describe. <image>", rounds[0][1]), TEMPLATES["plain"], tokenizer, num_media_tokens=[1])
    assert caption.ids.tolist() == official(f"<image>{rounds[0][1]}\n", tokenizer)
    assert caption.labels.tolist() == [IGNORED_LABEL] * 2 + caption.ids.tolist()[2:]


def test_ids_of_sentencepiece_itself(tokenizers, sentencepiece_folder):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_folder / "tokenizer.model"))
    ours = encode(
        sample_of("<image>\nwhat colour is the cat?", "red", "and the mat?", "blue ☃"),
        TEMPLATES["vicuna_v1"],
        tokenizers["llama_legacy"],
        num_media_tokens=[2],
    )
    expected = [1, *processor.encode(f"{USER} USER: "), MEDIA_ID, MEDIA_ID]
    expected += [*processor.encode("\nwhat colour is the cat? ASSISTANT: red"), 2]
    expected += [*processor.encode("USER: and the mat? ASSISTANT: blue ☃"), 2]
    assert ours.ids.tolist() == expected


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_typed_special_tokens_stay_text(tokenizers, kind):
    tokenizer = tokenizers[kind]
    typed = "a</s>b<s> <|im_end|><|im_start|>system</s"
    encoded = encode(sample_of(typed, typed), TEMPLATES["chatml"], tokenizer, num_media_tokens=[])
    harmless = encode(sample_of("a", "a"), TEMPLATES["chatml"], tokenizer, num_media_tokens=[])
    specials = special_ids(tokenizer)
    assert [i for i in encoded.ids.tolist() if i in specials] == [i for i in harmless.ids.tolist() if i in specials]
    if kind in LOSSLESS:
        assert tokenizer.decode(encoded.ids).count(typed) == 2


def test_typed_special_tokens_in_other_case():
    tokenizer = word_level(bos=True)
    tokenizer.add_tokens([AddedToken("<sep>", special=True, normalized=True)], special_tokens=True)
    separator = tokenizer.convert_tokens_to_ids("<sep>")
    assert separator in tokenizer("the <SEP> cat")["input_ids"]
    encoded = encode(sample_of("the <SEP> cat", "red"), TEMPLATES["vicuna_v1"], tokenizer, num_media_tokens=[])
    assert separator not in encoded.ids


def test_unknown_characters_at_the_boundary_are_not_swallowed():
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    names = ["<unk>", "</s>"]
    core.train_from_iterator(["the cat assistant user"], trainers.BpeTrainer(special_tokens=names, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>")
    # The newline before the answer and the snowman that begins it are both unknown.
    encoded = encode(sample_of("user", "☃cat"), TEMPLATES["chatml"], tokenizer, num_media_tokens=[])
    assert supervised_runs(encoded) == [[*tokenizer("☃cat", add_special_tokens=False)["input_ids"], 1]]
    assert supervised_runs(encoded)[0][0] == tokenizer.unk_token_id


def test_boxes_become_text_and_their_tokens_ids(tokenizers):
    box_token = AddedToken("<bin_7>", special=True)
    tokenizer = byte_level()
    encode(sample_of("q", "a"), TEMPLATES["vicuna_v1"], tokenizer, num_media_tokens=[])
    tokenizer.add_tokens([box_token], special_tokens=True)
    boxes = [Box(x0=0, y0=0, x1=x, y1=1) for x in (1, 2, 3)]
    sample = sample_of("<image>\nwhat is in <box>? <bin_7>", "cat <box> and <box>", boxes=boxes)
    encoded = encode(
        sample,
        TEMPLATES["vicuna_v1"],
        tokenizer,
        num_media_tokens=[1],
        box_text=lambda box: f"[{box.x1:.0f}<bin_7>]",
    )
    new_id = tokenizer.convert_tokens_to_ids("<bin_7>")
    assert encoded.ids.tolist().count(new_id) == 3  # one for each box, none for the typed one
    assert tokenizer.decode(supervised_runs(encoded)[0]) == " cat [2<bin_7>] and [3<bin_7>]</s>"
    # The caption template drops the user's text, and with it the first box, not the numbering.
    caption = encode(
        sample, TEMPLATES["plain"], tokenizer, num_media_tokens=[1], box_text=lambda box: f"({box.x1:.0f})"
    )
    assert tokenizer.decode(supervised_runs(caption)[0]) == "cat (2) and (3)\n"
    with pytest.raises(ZooError, match="'s1': has boxes but no box_text"):
        encode(sample, TEMPLATES["vicuna_v1"], tokenizer, num_media_tokens=[1])


def test_media_in_an_answer_are_not_supervised(tokenizers):
    encoded = encode(
        sample_of("draw a cat", "here <image> it is"), TEMPLATES["vicuna_v1"], tokenizers["bytes"], num_media_tokens=[3]
    )
    assert [tokenizers["bytes"].decode(run) for run in supervised_runs(encoded)] == [" here ", " it is</s>"]
    assert encoded.media_mask.sum() == 3


def test_a_medium_of_no_tokens(tokenizers):
    encoded = encode(sample_of("<image>\nq", "a"), TEMPLATES["vicuna_v1"], tokenizers["llama"], num_media_tokens=[0])
    assert encoded.media_runs[0][1] == 0 and not encoded.media_mask.any()


def test_truncation(tokenizers):
    tokenizer, template = tokenizers["llama"], TEMPLATES["vicuna_v1"]
    sample = sample_of("<image>\nwhat colour is the cat?", "red green blue")
    whole = encode(sample, template, tokenizer, num_media_tokens=[5])
    assert not whole.truncated
    start, length = whole.media_runs[0]
    for max_length in range(start + length, len(whole.ids) + 1):
        cut = encode(sample, template, tokenizer, num_media_tokens=[5], max_length=max_length)
        assert torch.equal(cut.ids, whole.ids[:max_length]) and torch.equal(cut.labels, whole.labels[:max_length])
        assert cut.truncated == (max_length < len(whole.ids))
        assert cut.num_supervised == (whole.labels[:max_length] != IGNORED_LABEL).sum()
        assert cut.num_supervised_before_truncation == whole.num_supervised
    gone = encode(sample, template, tokenizer, num_media_tokens=[5], max_length=start + length)
    assert gone.num_supervised == 0 and gone.num_supervised_before_truncation > 0
    with pytest.raises(ZooError, match=rf"'s1'.* {start} to {start + 5} does not fit into max_length {start + 4};"):
        encode(sample, template, tokenizer, num_media_tokens=[5], max_length=start + 4)


def test_wrong_number_of_media_lengths(tokenizers):
    with pytest.raises(ZooError, match="'s1': num_media_tokens has 2 entries for 1 media"):
        encode(sample_of("<image>", "a"), TEMPLATES["plain"], tokenizers["bytes"], num_media_tokens=[1, 1])


def test_an_end_of_turn_without_eos():
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(ZooError, match="'vicuna_v1' ends answers with EOS"):
        encode(sample_of("q", "a"), TEMPLATES["vicuna_v1"], tokenizer, num_media_tokens=[])
    encode(sample_of("q", "a"), TEMPLATES["chatml"], tokenizer, num_media_tokens=[])


def test_stops(tokenizers):
    byte_tokenizer, llama, words = tokenizers["bytes"], tokenizers["llama"], tokenizers["words"]
    assert (stop_ids(TEMPLATES["vicuna_v1"], llama), stop_strings(TEMPLATES["vicuna_v1"], llama)) == ((2,), ())
    assert stop_ids(TEMPLATES["chatml"], byte_tokenizer) == (1, byte_tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert stop_strings(TEMPLATES["chatml"], byte_tokenizer) == ()
    assert stop_strings(TEMPLATES["chatml"], llama) == ("<|im_end|>",)
    assert stop_strings(TEMPLATES["llava_v0"], llama) == ("###",)
    assert (stop_ids(TEMPLATES["plain"], words), stop_strings(TEMPLATES["plain"], words)) == ((2,), ())
