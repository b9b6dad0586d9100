import json
import os
import pickle

import pytest

from zoo.errors import ZooError
from zoo.evaluation.files import read_captions, read_mme, read_pope, read_refcoco, read_video_qa, read_vqa
from zoo.evaluation.metrics import score


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for name in ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000007.jpg", "0001.png"):
        (root / name).write_bytes(b"")
    return root


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def vqa_files(tmp_path, **change):
    question = {"image_id": 42, "question": "What colour is the cube?", "question_id": 42000}
    answers = [
        {"answer": "red" if at < 7 else "crimson", "answer_confidence": "yes", "answer_id": at} for at in range(1, 11)
    ]
    annotation = {
        "question_id": 42000,
        "image_id": 42,
        "question_type": "what color",
        "answer_type": "other",
        "multiple_choice_answer": "red",
        "answers": answers,
    }
    annotation |= change
    annotation = {key: value for key, value in annotation.items() if value is not None}
    return (
        write(tmp_path / "q.json", {"info": {}, "questions": [question]}),
        write(tmp_path / "a.json", {"info": {}, "annotations": [annotation]}),
    )


def test_vqa_scores_against_the_majority_answer(tmp_path, images):
    (item,) = read_vqa(*vqa_files(tmp_path), images, instruction="Answer briefly.")
    item.sample.validate()
    assert item.sample.messages[-1].content == "<image>\nWhat colour is the cube?\nAnswer briefly."
    assert item.sample.media[0].source == str(images / "COCO_val2014_000000000042.jpg")
    assert (item.sample.group, item.references, item.metric) == ("42", ("red",), "exact_match")
    assert len(item.sample.info["answers"]) == 10
    assert (score(item, "Red.").value, score(item, "crimson").value) == (1.0, 0.0)


def test_vqa_names_file_and_key(tmp_path, images):
    with pytest.raises(ZooError, match=r"a\.json: annotations\[0\] lacks 'multiple_choice_answer'"):
        read_vqa(*vqa_files(tmp_path, multiple_choice_answer=None), images)
    with pytest.raises(ZooError, match=r"q\.json: questions\[0\].*42000 has no annotation"):
        read_vqa(*vqa_files(tmp_path, question_id=5), images)
    with pytest.raises(ZooError, match=r"image .*000000000042\.png is missing"):
        read_vqa(*vqa_files(tmp_path), images, "{image_id:012d}.png")
    with pytest.raises(ZooError, match=r"pattern '\{image\}' does not fit image_id 42"):
        read_vqa(*vqa_files(tmp_path), images, "{image}")


POPE = {"question_id": 1, "image": "0001.png", "text": "Is there a dog in the image?", "label": "yes"}


@pytest.mark.parametrize("as_array", [True, False])
def test_pope_reads_lines_and_arrays(tmp_path, images, as_array):
    entries = [POPE, {**POPE, "question_id": 2, "label": "no"}]
    path = write(tmp_path / "p.json", entries if as_array else "\n".join(map(json.dumps, entries)) + "\n")
    first, second = read_pope(path, images, task="pope_popular")
    assert (first.task, first.references, second.references) == ("pope_popular", ("yes",), ("no",))
    assert first.sample.id != second.sample.id
    assert first.sample.group == second.sample.group == "0001.png"
    assert score(second, "No.").value == 1


def test_pope_refuses_other_labels_and_broken_lines(tmp_path, images):
    with pytest.raises(ZooError, match=r"p\.json: line 1: the label is 'maybe'"):
        read_pope(write(tmp_path / "p.json", json.dumps({**POPE, "label": "maybe"})), images)
    with pytest.raises(ZooError, match=r"p\.json: line 2: malformed JSON at line 1, column"):
        read_pope(write(tmp_path / "p.json", json.dumps(POPE) + '\n{"question_id": 2,'), images)
    with pytest.raises(ZooError, match=r"line 1: 'image' is 7, a int"):
        read_pope(write(tmp_path / "p.json", json.dumps({**POPE, "image": 7})), images)
    with pytest.raises(ZooError, match=r"'\.\./x\.png' lies outside"):
        read_pope(write(tmp_path / "p.json", json.dumps({**POPE, "image": "../x.png"})), images)
    with pytest.raises(ZooError, match=r"entry\[0\] is a str"):
        read_pope(write(tmp_path / "p.json", ["x"]), images)
    with pytest.raises(ZooError, match=r"none\.json: cannot be read: No such file"):
        read_pope(tmp_path / "none.json", images)


def test_mme_reads_three_or_four_columns(tmp_path, images):
    lines = (
        "0001.png\tIs there a dog? Please answer yes or no.\tYes\n"
        "0001.png\tIs there a cat? Please answer yes or no.\tNo\tyes\n\n"
    )
    first, second = read_mme(write(tmp_path / "existence.txt", lines), images)
    assert first.task == "mme_existence"
    assert (first.references, second.references) == (("yes",), ("no",))
    with pytest.raises(ZooError, match=r"bad\.txt: line 1 has 2 columns"):
        read_mme(write(tmp_path / "bad.txt", "0001.png\tIs there a dog?\n"), images)


def test_captions_gather_the_references_of_an_image(tmp_path, images):
    coco = {
        "images": [{"id": 7, "file_name": "COCO_val2014_000000000007.jpg"}],
        "annotations": [{"id": at, "image_id": 7, "caption": f"a dog {at}"} for at in range(5)],
    }
    (item,) = read_captions(write(tmp_path / "c.json", coco), images)
    assert item.references == tuple(f"a dog {at}" for at in range(5))
    with pytest.raises(ZooError, match="'caption' has no scorer"):
        score(item, "a dog 1")
    with pytest.raises(ZooError, match="image 7 has no caption"):
        read_captions(write(tmp_path / "c.json", {**coco, "annotations": []}), images)
    with pytest.raises(ZooError, match=r"c\.json lacks 'annotations'"):
        read_captions(write(tmp_path / "c.json", {"images": []}), images)


REF = {
    "ref_id": 3,
    "ann_id": 11,
    "category_id": 1,
    "image_id": 42,
    "file_name": "COCO_val2014_000000000042_11.jpg",
    "split": "testA",
    "sent_ids": [5, 6],
    "sentences": [
        {"sent_id": 5, "sent": "left cube", "raw": "Left cube", "tokens": ["left", "cube"]},
        {"sent_id": 6, "sent": "the red one", "raw": "the red one", "tokens": ["the", "red", "one"]},
    ],
}


def refcoco_files(tmp_path, refs, bbox=(10, 20, 30.5, 40)):
    refs_path = tmp_path / "refs(unc).p"
    refs_path.write_bytes(refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol=2))
    instances = {
        "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "width": 100, "height": 100}],
        "annotations": [{"id": 11, "image_id": 42, "bbox": list(bbox)}],
    }
    return refs_path, write(tmp_path / "instances.json", instances)


def test_refcoco_makes_an_item_of_every_sentence(tmp_path, images):
    first, second = read_refcoco(*refcoco_files(tmp_path, [REF, {**REF, "split": "val"}]), images, "testA")
    assert "left cube" in first.sample.messages[-1].content
    box = first.boxes[0]
    assert (box.x0, box.y0, box.x1, box.y1) == (10, 20, 40.5, 60)
    assert first.sample.id != second.sample.id
    assert first.sample.group == second.sample.group == "42"
    assert score(first, "x", parse_box=lambda text: box).value == 1


def test_refcoco_reads_the_byte_strings_of_python_2(tmp_path, images):
    # Protocol 0, as Python 2 wrote a str: [{'split': 'caf\xe9'}]
    refs = b"(lp0\n(dp1\nS'split'\np2\nS'caf\\xe9'\np3\nsa."
    with pytest.raises(ZooError, match="no sentence of split 'val'; it has café"):
        read_refcoco(*refcoco_files(tmp_path, refs), images, "val")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_before_it_runs(tmp_path, images, protocol):
    target = tmp_path / "owned"
    refs = pickle.dumps([REF, Malicious(str(target))], protocol=protocol)
    with pytest.raises(ZooError, match=r"refs\(unc\)\.p: not a pickle of plain data: .*mkdir"):
        read_refcoco(*refcoco_files(tmp_path, refs), images, "testA")
    assert not target.exists()
    pickle.loads(refs)
    assert target.exists(), "the pickle was harmless, so the test shows nothing"


def test_refcoco_names_what_is_wrong(tmp_path, images):
    with pytest.raises(ZooError, match="not a pickle of plain data"):
        read_refcoco(*refcoco_files(tmp_path, b"\x80\x02]q\x00("), images, "testA")
    with pytest.raises(ZooError, match="holds a dict"):
        read_refcoco(*refcoco_files(tmp_path, {"refs": []}), images, "testA")
    with pytest.raises(ZooError, match="no sentence of split 'tesA'; it has testA"):
        read_refcoco(*refcoco_files(tmp_path, [REF]), images, "tesA")
    with pytest.raises(ZooError, match=r"ref 0: ann_id 12 is not in .*instances\.json"):
        read_refcoco(*refcoco_files(tmp_path, [{**REF, "ann_id": 12}]), images, "testA")
    with pytest.raises(ZooError, match=r"annotations\[0\]: bbox \[1, 2, -3, 4\] is not"):
        read_refcoco(*refcoco_files(tmp_path, [REF], bbox=(1, 2, -3, 4)), images, "testA")


def video_files(tmp_path, name="abc.def"):
    question = {"video_name": name, "question": "what happens first", "question_id": f"v_{name}_1"}
    return (
        write(tmp_path / "vq.json", [question]),
        write(tmp_path / "va.json", [{"answer": "jump", "type": 2, "question_id": f"v_{name}_1"}]),
    )


def test_videos_are_files_or_folders_with_or_without_prefix(tmp_path):
    root = tmp_path / "videos"
    (root / "abc.def").mkdir(parents=True)
    (root / "v_xyz.mp4").write_bytes(b"")
    (item,) = read_video_qa(*video_files(tmp_path), root)
    assert item.sample.media[0].source == str(root / "abc.def")
    assert (item.sample.media[0].kind, item.sample.group, item.references) == ("video", "abc.def", ("jump",))
    assert item.sample.info["type"] == 2
    (item,) = read_video_qa(*video_files(tmp_path, "xyz"), root)
    assert item.sample.media[0].source == str(root / "v_xyz.mp4")
    with pytest.raises(ZooError, match=r"vq\.json: entry\[0\]: no video 'gone'"):
        read_video_qa(*video_files(tmp_path, "gone"), root)
    with pytest.raises(ZooError, match="is not a folder"):
        read_video_qa(*video_files(tmp_path), tmp_path / "nowhere")


def test_a_placeholder_inside_a_question_is_told(tmp_path, images):
    with pytest.raises(ZooError, match=r"pope-1.*2 media placeholders"):
        read_pope(write(tmp_path / "p.json", [{**POPE, "text": "Is <image> there?"}]), images)
