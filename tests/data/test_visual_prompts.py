"""Users' boxes as marks on the image: the words, the colours, where the paint lies, what answers keep."""

import numpy as np
import pytest
from PIL import Image
from tiny import conversation, image
from transformers import AutoTokenizer

from zoo.data.batch import Preprocessor
from zoo.data.sample import Box
from zoo.data.templates import get_template
from zoo.data.transforms import ImageTransform
from zoo.data.visual_prompts import COLOURS, SHAPES, VisualPrompt, draw, with_visual_prompts

BOX = Box(x0=10, y0=12, x1=30, y1=28)


def asked(*questions, boxes=(BOX,), answer="Yes.", name="x"):
    return conversation(name, [(f"<image>\n{question}", answer) for question in questions], [image("white")], boxes)


@pytest.mark.parametrize(
    ("question", "written"),
    [
        ("What is at <box>?", "What is within the red rectangle?"),
        ("what colour is the object in <box>?", "what colour is the object within the red rectangle?"),
        ("Describe <box>.", "Describe within the red rectangle."),
        ("That <box>?", "That within the red rectangle?"),
    ],
)
def test_words_of_evaluation(question, written):
    sample, prompts = with_visual_prompts(asked(question), vary=False)
    assert sample.messages[0].content == f"<image>\n{written}"
    assert prompts == [VisualPrompt(box=BOX)] and sample.boxes == ()


def test_boxes_have_colours_of_their_own_and_answers_keep_theirs():
    second, third = Box(x0=0, y0=0, x1=5, y1=5), Box(x0=1, y0=1, x1=9, y1=9)
    sample = conversation(
        "x",
        [("<image>\nIs <box> like <box>?", "No, that is at <box>.")],
        [image("white")],
        [BOX, second, third],
    )
    written, prompts = with_visual_prompts(sample, vary=False)
    text = written.messages[0].content
    assert text == "<image>\nIs within the red rectangle like within the lime rectangle?"
    assert [prompt.box for prompt in prompts] == [BOX, second]
    assert written.messages[1] == sample.messages[1] and written.boxes == (third,)
    written.validate()


def test_training_varies_by_sample_and_repeats_itself():
    drawn = [with_visual_prompts(asked("At <box>?", name=f"sample {i}"), vary=True) for i in range(60)]
    again = [with_visual_prompts(asked("At <box>?", name=f"sample {i}"), vary=True) for i in range(60)]
    assert drawn == again
    prompts = [prompt for _, (prompt,) in drawn]
    assert {prompt.shape for prompt in prompts} == set(SHAPES)
    assert {prompt.colour for prompt in prompts} == set(COLOURS)
    assert all(96 <= prompt.alpha <= 255 for prompt in prompts)
    assert all(prompt.words in sample.messages[0].content for sample, (prompt,) in drawn)


def painted(prompt, size=(112, 84)):
    """Where the image changed, and the image."""
    before = Image.new("RGB", size, (0, 0, 0))
    after = np.asarray(draw(before, [prompt])).astype(int)
    return after.any(-1), after


def test_a_rectangle_lies_on_the_edges_of_its_box():
    changed, after = painted(VisualPrompt(box=BOX, alpha=255))
    rows, columns = np.nonzero(changed)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 30, 12, 28)
    assert not changed[14:27, 12:29].any()
    assert (after[changed] == (255, 0, 0)).all()


def test_opacity_blends():
    _, after = painted(VisualPrompt(box=BOX, alpha=128))
    assert after.max() == 128


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_meets_its_box(shape):
    changed, _ = painted(VisualPrompt(box=BOX, shape=shape, alpha=255))
    assert changed[12:29, 10:31].any()
    assert changed.mean() < 0.2
    if shape in ("point", "arrow"):
        assert changed[20, 20]


def test_lines_grow_with_the_image():
    widths = []
    for scale in (1, 4):
        box = Box(x0=40 * scale, y0=40 * scale, x1=80 * scale, y1=80 * scale)
        changed, _ = painted(VisualPrompt(box=box), size=(336 * scale, 336 * scale))
        widths.append(int(changed[60 * scale, : 60 * scale].sum()))
    assert widths == [3, 12]


def test_the_preprocessor_draws_before_it_resizes(tiny_parts):
    tokenizer = AutoTokenizer.from_pretrained(tiny_parts / "language_model")

    def encode(codec, sample, **options):
        preprocessor = Preprocessor(
            tokenizer=tokenizer,
            transform=ImageTransform(size=56, resize="pad"),
            num_positions=lambda frames, kinds, grids: [4] * len(frames),
            box_codec=codec,
        )
        return preprocessor(sample, get_template("vicuna_v1"), **options)

    sample = asked("What is at <box>?", answer="A square at <box>.", boxes=(BOX, BOX))
    plain, drawn = (encode(codec, sample, generation=True) for codec in ("numerals", "vip-llava"))
    assert "within the red rectangle" in tokenizer.decode(drawn.ids[drawn.ids >= 0])
    assert not (plain.frames == drawn.frames).all()
    # Only where the rectangle lies, and around it as far as the filter of the resizing reaches.
    left, top, right, bottom = (round(value * 56) for value in drawn.geometries[0].fractions(BOX))
    rows, columns = (plain.frames != drawn.frames)[0].any(0).nonzero(as_tuple=True)
    assert top - 4 <= rows.min() and rows.max() <= bottom + 4
    assert left - 4 <= columns.min() and columns.max() <= right + 4
    # An answer's box stays numerals, and the file's image stays as it was.
    answer = encode("vip-llava", sample)
    assert "A square at [0." in tokenizer.decode(answer.ids[answer.labels >= 0])
    assert (encode("numerals", sample, generation=True).frames == plain.frames).all()
