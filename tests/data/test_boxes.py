"""Every box format: what it writes, that reading gives the box back, and that no answer breaks the reader."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoo.data.boxes import BOX_CODECS, get_box_codec, read_shikra, write_shikra
from zoo.data.integer_boxes import MINIGPT_V2, QWEN_VL
from zoo.data.location_tokens import (
    DELIMITER,
    PATCH_TOKENS,
    Entity,
    read_grounded,
    read_objects,
    to_cells,
    to_corners,
    write_grounded,
    write_objects,
)
from zoo.data.sample import Box
from zoo.data.transforms import RESIZES, Geometry, ImageTransform
from zoo.errors import ZooError

KNOWN = json.loads((Path(__file__).parent / "boxes.json").read_text())
UNIT = Geometry(width=1, height=1, size=1, scale_x=1.0, scale_y=1.0, offset_x=0.0, offset_y=0.0)
# The largest error of a corner that a format makes, as a fraction of the frame.
PRECISION = {
    "numerals": 0.005,
    "shikra": 0.0005,
    "kosmos-2": 1 / 32,
    "kosmos-2-hf": 1 / 32,
    "qwen-vl": 0.001,
    "minigpt-v2": 0.01,
    "gpt4roi": 0.005,
    "vip-llava": 0.005,
}


@st.composite
def geometries(draw):
    size = draw(st.tuples(st.integers(1, 700), st.integers(1, 700)))
    resize = draw(st.sampled_from(RESIZES))
    transform = ImageTransform(size=draw(st.sampled_from([14, 48, 224, 336])), resize=resize)
    return transform.geometry(size)


@st.composite
def boxes_in(draw, geometry):
    x = sorted(draw(st.tuples(*[st.floats(0, 1)] * 2)))
    y = sorted(draw(st.tuples(*[st.floats(0, 1)] * 2)))
    width, height = geometry.width, geometry.height
    return Box(x0=x[0] * width, y0=y[0] * height, x1=x[1] * width, y1=y[1] * height)


def corners(box):
    return (box.x0, box.y0, box.x1, box.y1)


def test_every_format_has_its_tests():
    assert set(PRECISION) == set(BOX_CODECS)


@pytest.mark.parametrize("name", PRECISION)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_reading_gives_the_box_back(name, data):
    geometry = data.draw(geometries())
    box = data.draw(boxes_in(geometry))
    codec = get_box_codec(name)
    found = codec.decode(f"It is at {codec.encode(box, geometry)}.", geometry)
    seen = geometry.to_original(geometry.to_frame(box))  # what the crop left of it
    assert found.medium == 0
    for kind, scale in (("x", geometry.scale_x), ("y", geometry.scale_y)):
        limit = geometry.width if kind == "x" else geometry.height
        for corner in "01":
            expected, value = getattr(seen, kind + corner), getattr(found, kind + corner)
            assert 0 <= value <= limit
            assert abs(value - expected) <= (PRECISION[name] + 1e-6) * geometry.size / scale
        assert getattr(found, kind + "0") <= getattr(found, kind + "1")


def test_resize_pad_and_crop_by_hand():
    box = Box(x0=160, y0=120, x1=480, y1=240)
    numbers = {"squash": (0.25, 0.25, 0.75, 0.5), "pad": (0.25, 0.3125, 0.75, 0.5), "crop": (1 / 6, 0.25, 5 / 6, 0.5)}
    for resize, expected in numbers.items():
        geometry = ImageTransform(size=48, resize=resize).geometry((640, 480))
        assert get_box_codec("shikra").encode(box, geometry) == write_shikra([expected])
        two_decimals = "[" + ", ".join(f"{value:.2f}" for value in expected) + "]"
        for name in ("numerals", "gpt4roi"):
            assert get_box_codec(name).encode(box, geometry) == two_decimals
        found = get_box_codec("shikra").decode(write_shikra([expected]), geometry)
        assert corners(found) == pytest.approx(corners(box), abs=0.5)
    squashed = ImageTransform(size=48, resize="squash").geometry((640, 480))
    pair = "<patch_index_{:04d}><patch_index_{:04d}>"
    # The lower right corner (0.75, 0.5) lies on the edges of the cells 24 and 16.
    for name, last in (("kosmos-2", 24 + 32 * 16), ("kosmos-2-hf", 23 + 32 * 15)):
        written = "<object>" + pair.format(8 + 32 * 8, last) + "</object>"
        assert get_box_codec(name).encode(box, squashed) == written
    assert get_box_codec("qwen-vl").encode(box, squashed) == "<box>(250,250),(750,500)</box>"
    assert get_box_codec("minigpt-v2").encode(box, squashed) == "{<25><25><75><50>}"


FRAGMENTS = [
    *(
        "[",
        "]",
        "[0.1, 0.2, 0.3, 0.4]",
        "[0.9,0.9,0.1,0.1]",
        "[1.5,2,3,4]",
        "[0.1,0.2;0.3,0.4]",
        "0.5",
        ",",
        ";",
        "[.5,",
    ),
    *("<object>", "</object>", "<phrase>", "</phrase>", DELIMITER, PATCH_TOKENS[0], PATCH_TOKENS[1023]),
    *("<box>", "</box>", "<box>(1,2),(3,4)</box>", "<ref>", "</ref>", "{<1><2><3><4>}", "<p>", "</p>", "<delim>"),
    *("<patch_index_9999>", "<patch_index_1024>", "<patch_index_1>", "<grounding>", " ", "a dog", "²", "٣", "1" * 400),
]
ANSWERS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))


@pytest.mark.parametrize("name", PRECISION)
@given(answer=ANSWERS, geometry=geometries())
@example(answer="<object><patch_index_1024><patch_index_0000></object>", geometry=UNIT)
@example(answer="[0.9,0.8,0.1,0.2]", geometry=UNIT)
@example(answer="<ref>a<ref>b</ref> <box> (1000,2),(3,4)</box><box>(9,9),(1,1)</box>", geometry=UNIT)
@settings(max_examples=150, deadline=None)
def test_malformed_answers_never_raise(name, answer, geometry):
    found = get_box_codec(name).decode(answer, geometry)
    if found is not None:
        assert 0 <= found.x0 <= found.x1 <= geometry.width and 0 <= found.y0 <= found.y1 <= geometry.height
    readers = {"qwen-vl": QWEN_VL.read, "minigpt-v2": MINIGPT_V2.read}
    text, entities = readers.get(name, read_grounded)(answer, geometry)
    assert all(0 <= entity.start <= entity.end <= len(text) and entity.boxes for entity in entities)


@pytest.mark.parametrize("name", PRECISION)
def test_answers_without_a_box_and_with_several(name):
    codec = get_box_codec(name)
    for answer in ("", "No.", "[0.1, 0.2]", "[a, b, c, d]", "<object></object>", "<patch_index_0001>"):
        assert codec.decode(answer, UNIT) is None
    first, second = Box(x0=0.25, y0=0.25, x1=0.5, y1=0.75), Box(x0=0.5, y0=0.5, x1=1, y1=1)
    both = f"{codec.encode(first, UNIT)} and {codec.encode(second, UNIT)}"
    assert codec.decode(both, UNIT) == codec.decode(codec.encode(first, UNIT), UNIT)
    assert codec.decode(both, UNIT) != codec.decode(codec.encode(second, UNIT), UNIT)


def test_whole_numbers_at_the_edges():
    qwen, minigpt = get_box_codec("qwen-vl"), get_box_codec("minigpt-v2")
    whole = Box(x0=0, y0=0, x1=1, y1=1)
    assert qwen.encode(whole, UNIT) == "<box>(0,0),(999,999)</box>"
    assert minigpt.encode(whole, UNIT) == "{<0><0><100><100>}"
    assert qwen.decode(qwen.encode(whole, UNIT), UNIT) == minigpt.decode(minigpt.encode(whole, UNIT), UNIT) == whole
    # Rounded down, in both.
    inside = Box(x0=0.2999, y0=0.2999, x1=0.7999, y1=0.7999)
    assert qwen.encode(inside, UNIT) == "<box>(299,299),(799,799)</box>"
    assert minigpt.encode(inside, UNIT) == "{<29><29><79><79>}"
    # The prompt may have opened the box already, and blanks of a tokenizer change nothing.
    for answer in ("<box> (299, 299),(799,799) </box>", "(299,299),(799,799)", "<ref>a</ref><box>(299,299),(799,799)"):
        assert qwen.decode(answer, UNIT) == qwen.decode(qwen.encode(inside, UNIT), UNIT)
    # Four digits are no number of these formats.
    assert minigpt.decode("{<1000><0><1><1>}", UNIT) is None


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (
            QWEN_VL,
            "I see <ref>a dog</ref><box>(100,200),(300,400)</box> and "
            "<ref>two cats</ref><box>(0,0),(500,500)</box><box>(500,500),(999,999)</box>.",
        ),
        (
            MINIGPT_V2,
            "I see <p>a dog</p> {<10><20><30><40>} and <p>two cats</p> {<0><0><50><50>}<delim>{<50><50><100><100>}.",
        ),
    ],
    ids=["qwen-vl", "minigpt-v2"],
)
def test_phrases_with_boxes_of_whole_numbers(form, written):
    dog, cats = (
        (Box(x0=0.1, y0=0.2, x1=0.3, y1=0.4),),
        (Box(x0=0, y0=0, x1=0.5, y1=0.5), Box(x0=0.5, y0=0.5, x1=1, y1=1)),
    )
    text = "I see a dog and two cats."
    entities = [Entity(start=6, end=11, boxes=dog), Entity(start=16, end=24, boxes=cats)]
    assert form.write(text, entities, UNIT) == written
    clean, found = form.read(written, UNIT)
    assert clean == text and [(entity.start, entity.end) for entity in found] == [(6, 11), (16, 24)]
    for entity, expected in zip(found, entities, strict=True):
        for box, other in zip(entity.boxes, expected.boxes, strict=True):
            assert corners(box) == pytest.approx(corners(other), abs=1 / form.num_bins)
    # A phrase without a box is words, and a box without a phrase is left where it stands.
    assert form.read(form.phrase[0] + "it" + form.phrase[1], UNIT) == (form.phrase[0] + "it" + form.phrase[1], [])


def test_rules_for_malformed_boxes():
    swapped = Box(x0=0.1, y0=0.2, x1=0.9, y1=0.8)
    assert get_box_codec("numerals").decode("[0.9, 0.8, 0.1, 0.2]", UNIT) == swapped
    assert get_box_codec("shikra").decode("at [0.9,0.8,0.1,0.2]", UNIT) == swapped
    assert get_box_codec("numerals").decode("[0, 0, 7, 3]", UNIT) == Box(x0=0, y0=0, x1=1, y1=1)
    # Shikra's expression wants a digit before the point and no blanks.
    assert get_box_codec("shikra").decode("[.1,.2,.3,.4] [0.1, 0.2, 0.3, 0.4]", UNIT) is None
    # A cell beyond the grid spoils its pair, not the others.
    one = "<patch_index_1024><patch_index_0000>"
    other = "<patch_index_0000><patch_index_1023>"
    boxes = read_objects(f"<object>{one}{DELIMITER}{other}</object>", UNIT)
    assert boxes == [Box(x0=0.5 / 32, y0=0.5 / 32, x1=31.5 / 32, y1=31.5 / 32)]


def test_unknown_format():
    with pytest.raises(ZooError, match=r"unknown box codec 'kosmos2'\. Did you mean 'kosmos-2'\?"):
        get_box_codec("kosmos2")


@pytest.mark.parametrize("case", KNOWN["shikra.norm_box_xyxy"])
def test_shikra_fractions(case):
    values, width, height = case[0]
    geometry = ImageTransform(size=224, resize="squash").geometry((width, height))
    box = Box(**dict(zip(("x0", "y0", "x1", "y1"), values)))
    assert get_box_codec("shikra").encode(box, geometry) == write_shikra([case[1]])


@pytest.mark.parametrize("case", KNOWN["shikra.box_xyxy_expand2square"])
def test_shikra_places_boxes_in_the_padded_square(case):
    values, width, height = case[0]
    geometry = ImageTransform(size=224, resize="pad").geometry((width, height))
    box = Box(**dict(zip(("x0", "y0", "x1", "y1"), values)))
    expected = [min(value / max(width, height), 1.0) for value in case[1]]
    assert get_box_codec("shikra").encode(box, geometry) == write_shikra([expected])


def test_shikra_text():
    for boxes, text in KNOWN["shikra.plain.format"]:
        assert write_shikra(boxes) == text
        assert read_shikra(text) == [[tuple(box) for box in boxes]]
    for text, brackets in KNOWN["shikra.plain.extract"]:
        assert read_shikra(text) == [[tuple(box) for box in bracket] for bracket in brackets]
    assert write_shikra([(0.1, 0.25)]) == "[0.100,0.250]"
    assert read_shikra("[0.100,0.250;1,0.] [0.1,0.2,0.3,0.4]", points=True) == [[(0.1, 0.25), (1.0, 0.0)]]


@pytest.mark.parametrize("case", KNOWN["kosmos2.coordinate_to_patch_index"])
def test_hf_rounding(case):
    (values, num_cells), cells = case
    assert to_cells(values, rounding="hf", num_cells=num_cells) == tuple(cells)


def test_official_rounding_differs_on_edges_of_cells_alone():
    assert to_cells((0.0, 0.0, 0.5, 0.5)) == (0, 16 + 32 * 16)
    assert to_cells((0.0, 0.0, 0.5, 0.5), rounding="hf") == (0, 15 + 32 * 15)
    assert to_cells((1.0, 1.0, 1.0, 1.0)) == (1023, 1023) == to_cells((1.0, 1.0, 1.0, 1.0), rounding="hf")
    assert to_cells((0.0, 0.0, 0.0, 0.0)) == (0, 0) == to_cells((0.0, 0.0, 0.0, 0.0), rounding="hf")
    for values in ((0.013, 0.21, 0.79, 0.9997), (0.3, 0.3, 0.31, 0.31)):
        assert to_cells(values) == to_cells(values, rounding="hf")


@pytest.mark.parametrize("case", KNOWN["kosmos2.patch_index_to_coordinate"])
def test_cells_to_corners(case):
    (cells, num_cells), expected = case
    assert to_corners(tuple(cells), num_cells=num_cells) == pytest.approx(expected, abs=1e-12)


@given(cells=st.tuples(*[st.integers(0, 31)] * 4))
def test_cells_survive_hf_rounding(cells):
    x0, x1 = sorted(cells[:2])
    y0, y1 = sorted(cells[2:])
    pair = (x0 + 32 * y0, x1 + 32 * y1)
    assert to_cells(to_corners(pair), rounding="hf") == pair


@pytest.mark.parametrize("case", KNOWN["kosmos2.clean_text_and_extract_entities"])
def test_entities_of_grounded_text(case):
    text, (clean, entities) = case
    found, parsed = read_grounded("<grounding>" + text, UNIT)
    assert found == clean
    assert [(found[entity.start : entity.end], [entity.start, entity.end]) for entity in parsed] == [
        (phrase, span) for phrase, span, _ in entities
    ]
    for entity, (_, _, boxes) in zip(parsed, entities, strict=True):
        for box, (x0, y0, x1, y1) in zip(entity.boxes, boxes, strict=True):
            # The reference leaves corners in the order in which they were written.
            assert corners(box) == pytest.approx((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))


def test_grounded_text_by_hand():
    dog = Entity(start=12, end=17, boxes=(Box(x0=0.82, y0=0.07, x1=0.93, y1=0.98),))
    cats = Entity(
        start=22, end=30, boxes=(Box(x0=0.66, y0=0.32, x1=0.83, y1=0.58), Box(x0=0.1, y0=0.39, x1=0.73, y1=0.8))
    )
    written = write_grounded("An image of a dog and two cats.", [dog, cats], UNIT)
    assert written == (
        "<grounding> An image of<phrase> a dog</phrase><object><patch_index_0090><patch_index_1021></object> and"
        "<phrase> two cats</phrase><object><patch_index_0341><patch_index_0602></delimiter_of_multi_objects/>"
        "<patch_index_0387><patch_index_0823></object>."
    )
    # An object without a phrase names a place; unfinished markup is dropped.
    clean, entities = read_grounded("at <object><patch_index_0124><patch_index_0734></object> now<phrase> it", UNIT)
    assert clean == "at  now it" and [(entity.start, entity.end) for entity in entities] == [(3, 3)]
    # Blanks that a tokenizer put between tokens change nothing.
    spaced = "<object> <patch_index_0124> <patch_index_0734> </object>"
    assert read_objects(spaced, UNIT) == read_objects(spaced.replace(" ", ""), UNIT) != []


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_reading_grounded_text_gives_it_back(data):
    words = data.draw(st.lists(st.text("abcäß.,!", min_size=1, max_size=5), min_size=1, max_size=6))
    text, geometry = " ".join(words), data.draw(geometries())
    starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words))]
    entities = []
    for word, start in zip(words, starts):
        if data.draw(st.booleans()):
            boxes = [data.draw(boxes_in(geometry)) for _ in range(data.draw(st.integers(1, 2)))]
            # Boxes that the format can hold: those it has read.
            boxes = tuple(read_objects(write_objects(boxes, geometry), geometry))
            entities.append(Entity(start=start, end=start + len(word), boxes=boxes))
    found, parsed = read_grounded(write_grounded(text, entities, geometry), geometry)
    assert found == text
    assert [(entity.start, entity.end, len(entity.boxes)) for entity in parsed] == [
        (entity.start, entity.end, len(entity.boxes)) for entity in entities
    ]
    for entity, expected in zip(parsed, entities):
        for box, other in zip(entity.boxes, expected.boxes):
            error = max(abs(a - b) for a, b in zip(corners(box), corners(other)))
            assert error <= geometry.size / 32 / min(geometry.scale_x, geometry.scale_y) + 1e-6
