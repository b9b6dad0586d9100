"""Interleaved documents: which images are used, what stands before and after them, what is supervised and reported."""

import base64
import io
import json
import pickle
import tarfile

import pytest
from PIL import Image
from tiny import picture, train_tokenizer

from zoo.cli import main
from zoo.data.check import check
from zoo.data.encode import IGNORED_LABEL, encode
from zoo.data.sources import open_source
from zoo.data.sources.documents import DocumentSource
from zoo.data.template import Template
from zoo.errors import ZooError

pytestmark = pytest.mark.filterwarnings("ignore:.*left out:UserWarning")

# The shape of a Flamingo's documents: a medium takes no place of its own and begins at the token <image>.
FLAMINGO = Template(name="flamingo_like", end="<|endofchunk|>", media="inline", image="{media}<image>", bos=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(8):
        picture("red", seed=number).save(tmp_path / f"{number}.png")
    return tmp_path


def mmc4(sentences, *images, **fields):
    """Images as (name, index of the sentence, similarity)."""
    infos = [{"image_name": name, "matched_text_index": at, "matched_sim": sim} for name, at, sim in images]
    return {"text_list": sentences, "image_info": infos, "similarity_matrix": [[0.0]], **fields}


def write(folder, *records, name="docs.jsonl"):
    path = folder / name
    path.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return str(path)


def turns(sample):
    return [(message.role, message.content) for message in sample.messages]


def names(sample):
    return [medium.source.rpartition("/")[2] for medium in sample.media]


def read(folder, record, **rules):
    options = "&".join(f"{key}={value}" for key, value in rules.items())
    (sample,) = open_source(f"documents:{write(folder, record)}?{options}")
    return sample.validate()


def test_images_stand_before_their_sentences(folder):
    record = mmc4(["a", " b ", "c", "d", "e"], ("1.png", 3, 0.3), ("0.png", 1, 0.24), url="http://x", id="doc")
    sample = read(folder, record)
    assert turns(sample) == [("user", "a<image>"), ("assistant", "b c"), ("user", "<image>"), ("assistant", "d e")]
    assert names(sample) == ["0.png", "1.png"]
    assert sample.id == "doc" and sample.info["url"] == "http://x" and "similarity_matrix" not in sample.info


def test_only_usable_images_count(folder):
    record = mmc4(
        ["a", "b", "", "c <video> tag"],
        ("0.png", 0, 0.23),
        ("1.png", 1, 0.5),
        ("2.png", 1, 0.6),
        ("lost.png", 0, 0.9),
        (None, 0, 0.9),
        ("3.png", 2, 0.9),
        ("4.png", 3, 0.3),
    )
    sample = read(folder, record)
    assert turns(sample) == [("user", "a<image>"), ("assistant", "b"), ("user", "<image>"), ("assistant", "c  tag")]
    assert names(sample) == ["2.png", "4.png"]
    assert sample.info["images_left_out"] == {
        "below similarity 0.24": 1,
        "second to a more similar one": 1,
        "not there": 2,
        "without text": 1,
    }
    assert names(read(folder, record, min_similarity=0.2)) == ["0.png", "2.png", "4.png"]


def test_the_first_images_of_the_list_are_kept(folder):
    record = mmc4([*"abcdefgh"], *((f"{number}.png", 7 - number, 0.3) for number in range(8)))
    assert names(read(folder, record)) == ["5.png", "4.png", "3.png", "2.png", "1.png", "0.png"]
    sample = read(folder, record, max_images=2)
    assert turns(sample) == [
        ("user", "a b c d e f<image>"),
        ("assistant", "g"),
        ("user", "<image>"),
        ("assistant", "h"),
    ]
    assert sample.info["images_left_out"] == {"beyond 2 of a document": 6}


def test_obelics_parallel_lists(folder):
    texts = ["intro", None, "one", None, None, "two", "more", None, "far", None]
    images = [None, "0.png", None, "lost.png", "1.png", None, None, "2.png", None, "3.png"]
    sample = read(folder, {"texts": texts, "images": images, "metadata": "[]"}, max_images=2)
    assert turns(sample) == [
        ("user", "intro<image>"),
        ("assistant", "one"),
        ("user", "<image>"),
        ("assistant", "two\n\nmore\n\nfar"),
    ]
    assert names(sample) == ["0.png", "1.png"]
    sample = read(folder, {"texts": texts, "images": images})
    assert names(sample) == ["0.png", "1.png", "2.png"] and turns(sample)[-1] == ("assistant", "far")
    assert sample.info["images_left_out"] == {"not there": 1, "without text": 1}
    pair = read(folder, {"texts": [None, None, "both"], "images": ["0.png", "1.png", None]})
    assert turns(pair) == [("user", "<image><image>"), ("assistant", "both")]


def test_a_flamingo_supervises_what_follows_an_image(folder):
    tokenizer = train_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endofchunk|>", "<image>"]})
    sample = read(folder, mmc4(["before", "one", "two", "three"], ("0.png", 1, 0.3), ("1.png", 3, 0.3)))
    encoded = encode(sample, FLAMINGO, tokenizer, num_media_tokens=[0, 0])
    assert tokenizer.decode(encoded.ids) == "before<image>one two<|endofchunk|><image>three<|endofchunk|>"
    supervised = encoded.ids[encoded.labels != IGNORED_LABEL]
    assert tokenizer.decode(supervised) == "one two<|endofchunk|>three<|endofchunk|>"
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    assert [int(encoded.ids[start]) for start, _ in encoded.media_runs] == [image_id] * 2


def test_documents_without_a_usable_image_are_counted(folder):
    good = mmc4(["a"], ("0.png", 0, 0.3), id="good")
    weak = mmc4(["a", "b"], ("1.png", 0, 0.1), ("lost.png", 1, 0.4), id="weak")
    path = write(folder, weak, good, mmc4(["a"], id="bare"), good | {"id": "again"})
    with pytest.warns(UserWarning, match="2 of 4 documents left out") as warned:
        source = open_source(path)
    assert "1 below similarity 0.24, 1 not there" in str(warned[0].message)
    assert isinstance(source, DocumentSource)
    assert [sample.id for sample in source] == ["good", "again"] and source[-1].id == "again"
    assert [name for name, _ in source.left_out.documents] == ["weak", "bare"]
    assert [sample.id for sample in pickle.loads(pickle.dumps(source))] == ["good", "again"]
    with pytest.raises(IndexError):
        source[2]
    (folder / "0.png").unlink()
    with pytest.raises(ZooError, match=r"'good'.*1 not there") as raised:
        source[0]
    # A worker process hands its errors over by pickle.
    assert pickle.loads(pickle.dumps(raised.value)).lost == {"not there": 1}


def test_data_check_lists_what_is_wrong_and_what_is_left_out(folder, capsys):
    good = mmc4(["a", "b"], ("0.png", 0, 0.3), ("1.png", 1, 0.3))
    path = write(folder, good, mmc4(["a"], ("1.png", 0, 0.1), id="weak"))
    assert main(["data", "check", path]) == 0
    report = check(path)
    assert (report.num_samples, report.num_images, report.notes["left_out"].num) == (1, 2, 1)
    assert "documents without a usable image, which training leaves out: 1" in capsys.readouterr().out
    far = mmc4(["a"], ("0.png", 1, 0.3), id="far")
    path = write(folder, good, far, {"texts": ["a"], "images": [None, "0.png"], "id": "uneven"}, '{"text_list": [')
    report = check(path)
    assert not report.ok and report.problems["malformed"].num == 3
    texts = " ".join(text for _, text in report.problems["malformed"].first)
    assert "matched_text_index" in texts and "parallel" in texts and "docs.jsonl: sample 3" in texts


def test_shards(folder):
    """Images in base64 (OpenFlamingo's shards), by name, and by number."""
    buffer = io.BytesIO()
    picture("blue").save(buffer, "PNG")
    inside = mmc4(["a", "b"], (None, 0, 0.3), (None, 1, 0.1), id="inside")
    inside["image_info"][0]["image_base64"] = base64.b64encode(buffer.getvalue()).decode()
    numbered = mmc4(["a", "b"], ("x.jpg", 0, 0.1), ("y.jpg", 1, 0.3), id="numbered")
    files = {
        "0.json": inside,
        "1.json": numbered,
        "1.0.png": (folder / "0.png").read_bytes(),
        "1.1.png": (folder / "1.png").read_bytes(),
        "2.json": mmc4(["a"], ("x.jpg", 0, 0.1), id="weak"),
    }
    with tarfile.open(folder / "docs.tar", "w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    source = open_source(str(folder / "docs.tar"))
    with pytest.warns(UserWarning, match="1 of 3 documents left out"):
        first, second = source
    assert turns(first) == [("user", "<image>"), ("assistant", "a b")]
    assert Image.open(io.BytesIO(first.media[0].source)).size == (40, 28) and first.group == "inside/0"
    assert turns(second) == [("user", "a<image>"), ("assistant", "b")]
    assert second.media[0].source == files["1.1.png"]
    with pytest.warns(UserWarning, match="left out"):
        assert check(source).notes["left_out"].num == 1


@pytest.mark.parametrize(
    ("record", "spec", "named"),
    [
        (mmc4(["a"], ("lost.png", 0, 0.3)), "{}", "folder of the images"),
        (mmc4(["a"], ("http://x/1.png", 0, 0.3)), "documents:{}", "download it"),
        (mmc4(["a"], ("0.png", 0, "0.3")), "{}", "matched_sim"),
        (mmc4(["a", 3], ("0.png", 0, 0.3)), "{}", "text_list"),
        ({"messages": []}, "documents:{}", "neither 'text_list'"),
        ([1], "documents:{}", "the record is int"),
        ({"texts": ["a"], "images": ["0.png"]}, "{}", "both a text and an image"),
        (mmc4(["a"], ("0.png", 0, 0.3)), "documents:{}?max_imags=2", "max_images"),
        (mmc4(["a"], ("0.png", 0, 0.3)), "documents:{}?max_images=two", "'two'"),
        (mmc4(["a"], ("0.png", 0, 0.3)), "documents:{}?max_images=0", "max_images is 0"),
    ],
)
def test_bad_input_names_itself(folder, record, spec, named):
    path = write(folder, record)
    with pytest.raises(ZooError, match=named) as raised:
        list(open_source(spec.format(path)))
    assert "\n" not in str(raised.value)
