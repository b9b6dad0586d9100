import json
import pickle
import pickletools

import numpy as np
import pytest

from zoo.data.media import load_frames
from zoo.data.scenes import SceneSource
from zoo.data.scenes.files import write
from zoo.data.scenes.world import UNSEEN_PAIRS
from zoo.data.sources import open_source
from zoo.errors import ZooError
from zoo.evaluation.files import read_captions, read_mme, read_pope, read_refcoco, read_video_qa, read_vqa

SIZES = {"num_train": 20, "num_eval": 8, "image_size": 32, "seed": 3, "num_frames": 4}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "data"
    counts = write(folder, **SIZES)
    return folder, counts


def test_the_same_arguments_give_the_same_bytes(written, tmp_path):
    folder, _ = written
    write(tmp_path / "again", **SIZES)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    again = tmp_path / "again"
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_training_file_reads_back_as_the_samples_it_was_made_of(written):
    folder, counts = written
    source = SceneSource("train", "mixture", SIZES["num_train"], seed=3, image_size=32, num_frames=4)
    read = open_source(str(folder / "train.json"), media_root=str(folder))
    assert len(read) == counts["train.json"] == SIZES["num_train"]
    for made, loaded in zip(source, (read[index] for index in range(len(read))), strict=True):
        assert loaded.messages == made.messages and loaded.id == made.id
        assert len(loaded.boxes) == len(made.boxes)
        for one, other in zip(loaded.boxes, made.boxes):
            assert np.allclose((one.x0, one.y0, one.x1, one.y1), (other.x0, other.y0, other.x1, other.y1), atol=0.006)
        drawn = made.media[0].source()
        frames = load_frames(loaded.media[0], root=str(folder))
        assert [frame.tobytes() for frame in frames] == [
            frame.tobytes() for frame in (drawn if isinstance(drawn, list) else [drawn])
        ]


def test_evaluation_files_load_through_the_public_readers(written):
    folder, counts = written
    images = folder / "images/test"
    vqa = read_vqa(
        folder / "vqa/v2_OpenEnded_scenes_test_questions.json",
        folder / "vqa/v2_scenes_test_annotations.json",
        images,
        image_pattern="{image_id:012d}.png",
    )
    assert len(vqa) == 6 * 8 and len({item.sample.id for item in vqa}) == len(vqa)
    assert all(len(item.sample.info["answers"]) == 10 for item in vqa)
    for name in ("random", "popular", "adversarial"):
        pope = read_pope(folder / f"pope/scenes_pope_{name}.json", images)
        assert [item.references for item in pope] == [("yes",), ("no",)] * 4
    for name in ("existence", "count", "position", "color"):
        mme = read_mme(folder / f"mme/{name}.txt", images)
        assert [item.references for item in mme] == [("yes",), ("no",)] * 4
        assert all(one.sample.group == other.sample.group for one, other in zip(mme[::2], mme[1::2]))
        assert all(item.sample.messages[0].content.endswith(" Please answer yes or no.") for item in mme)
    captions = read_captions(folder / "captions/captions_test.json", images)
    assert len(captions) == 8 and all(len(set(item.references)) == 5 for item in captions)
    videos = read_video_qa(folder / "video_qa/test_q.json", folder / "video_qa/test_a.json", folder / "videos/test")
    assert len(videos) == counts["video_qa/test_q.json"] == 24
    assert {item.sample.info["type"] for item in videos} == {0, 2, 7}
    assert all(len(load_frames(item.sample.media[0])) == 4 for item in videos)


def test_referring_file_is_a_plain_pickle_with_a_split_of_unseen_pairs(written):
    folder, counts = written
    content = (folder / "refcoco/refs(unc).p").read_bytes()
    assert content[:2] == b"\x80\x02"
    assert not [op.name for op, _, _ in pickletools.genops(content) if op.name in ("GLOBAL", "REDUCE", "BUILD")]
    refs = pickle.loads(content)
    instances = json.loads((folder / "refcoco/instances.json").read_text())
    boxes = {entry["id"]: entry for entry in instances["annotations"]}
    assert sum(len(ref["sentences"]) for ref in refs) == counts["refcoco/refs(unc).p"]
    for split in ("val", "testA", "testB"):
        items = read_refcoco(
            folder / "refcoco/refs(unc).p", folder / "refcoco/instances.json", folder / "images/test", split
        )
        assert len({item.sample.group for item in items}) == 8
    for ref in refs:
        annotation = boxes[ref["ann_id"]]
        assert (annotation["image_id"], annotation["category_id"]) == (ref["image_id"], ref["category_id"])
        assert all(0 < value < 32 for value in annotation["bbox"])
        for sentence in ref["sentences"]:
            named = set(sentence["tokens"])
            pairs = [pair for pair in UNSEEN_PAIRS if set(pair) <= named]
            assert not pairs or ref["split"] == "testB"


def test_a_used_folder_is_refused_and_nothing_is_left_of_a_failure(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/notes.txt").write_text("keep")
    with pytest.raises(ZooError, match="exists already"):
        write(tmp_path / "used", **SIZES)
    with pytest.raises(ZooError, match="image_size 3"):
        write(tmp_path / "new", **{**SIZES, "image_size": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used"]
