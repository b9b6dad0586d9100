import io
import json
import tarfile
from types import SimpleNamespace

import pytest
from PIL import Image

from zoo.data.check import NUM_LISTED, check
from zoo.data.sample import Message, Sample
from zoo.errors import ZooError


def llava(id, question="<image>\nWhat?", answer="A cat.", **fields):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": id, "conversations": turns, **fields}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Image.effect_noise((64, 48), 50).convert("RGB").save(tmp_path / "good.jpg", quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:1500])
    return tmp_path


def write(folder, *records):
    path = folder / "train.jsonl"
    path.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return str(path)


def nums(report):
    return {key: findings.num for key, findings in report.problems.items() if findings.num}


def test_good_file(folder):
    path = write(
        folder,
        llava("a", image="good.jpg"),
        llava("b", "<image> or <image>?", image=["good.jpg", "good.jpg"]),
        llava("c", "<video>", video=[["good.jpg", "good.jpg"]]),
        llava("d", "Hi"),
    )
    report = check(path)
    assert report.ok and nums(report) == {}
    assert (report.num_samples, report.num_turns, report.num_images, report.num_videos) == (4, 8, 3, 1)
    assert report.num_text_only == 1 and dict(report.media_per_sample) == {1: 2, 2: 1, 0: 1}
    assert report.num_media_opened == 2
    assert "not checked" in report.render() and "--method" in report.render()
    assert json.loads(json.dumps(report.as_dict()))["media_per_sample"] == {"0": 1, "1": 2, "2": 1}


def test_every_problem_is_collected_with_its_sample(folder):
    path = write(
        folder,
        llava("fine", image="good.jpg"),
        llava("missing", image="no.jpg"),
        llava("missing too", image="no.jpg"),
        llava("truncated", image="cut.jpg"),
        llava("count", image=["good.jpg", "good.jpg"]),
        llava("types", image=3),
        '{"id": "broken',
        llava("empty", answer=" ", image="good.jpg"),
        {"id": "silent", "messages": [{"role": "user", "content": "Hi"}]},
        llava("fine", "Hi"),
    )
    report = check(path)
    assert not report.ok and report.num_samples == 10
    assert nums(report) == {"malformed": 2, "placeholders": 1, "media": 3, "empty_answers": 2}
    ids = {key: [id for id, _ in findings.first] for key, findings in report.problems.items()}
    assert ids["malformed"] == ["types", "train.jsonl:6"]
    assert ids["placeholders"] == ["count"]
    assert ids["media"] == ["missing", "missing too", "truncated"]
    assert ids["empty_answers"] == ["empty", "silent"]
    assert report.notes["duplicate_ids"].first == [("fine", "sample 9 in order")]
    text = report.render()
    for word in ("not ok", "missing too", "no.jpg", "cut.jpg", "1 <image>", "2 image(s)", "train.jsonl:6"):
        assert word in text
    assert report.as_dict()["problems"]["media"]["num"] == 3 and report.as_dict()["ok"] is False


def test_duplicate_ids_alone_are_no_failure(folder):
    report = check(write(folder, llava("a", "Hi"), llava("a", "Ho")))
    assert report.ok and report.notes["duplicate_ids"].num == 1 and "(a note)" in report.render()


def test_all_are_counted_and_the_first_are_listed(folder):
    report = check(write(folder, *(llava(str(index), image=f"no{index}.jpg") for index in range(150))))
    findings = report.problems["media"]
    assert findings.num == 150 and [id for id, _ in findings.first] == [str(index) for index in range(NUM_LISTED)]
    assert f"and {150 - NUM_LISTED} more" in report.render()


def test_lengths(folder):
    def encode(sample):
        if sample.id == "odd":
            raise ZooError("sample 'odd': cannot be encoded")
        kept = {"whole": 5, "part": 3, "none": 0}[sample.id]
        return SimpleNamespace(truncated=kept < 5, num_supervised=kept, num_supervised_before_truncation=5)

    report = check(write(folder, *(llava(id, "Hi") for id in ("whole", "part", "none", "odd"))), encode=encode)
    assert report.lengths_checked and nums(report) == {"cut_off": 2, "not_encodable": 1}
    (part, lost), (none, all_lost) = report.problems["cut_off"].first
    assert (part, none) == ("part", "none") and "2 of 5" in lost and "no answer is left" in all_lost
    assert "not checked" not in report.render()


def test_limits(folder):
    path = write(folder, *(llava(str(index), image=f"no{index}.jpg") for index in range(6)))
    opened = []
    report = check(path, max_media=2, limit=4, read_media=opened.append)
    assert len(opened) == 2 == report.num_media_opened and report.num_media_looked_up == 2
    assert report.num_samples == 4 and [id for id, _ in report.problems["media"].first] == ["2", "3"]
    assert "first 4 samples" in report.render()


def test_shards_and_samples_beside_damaged_ones(folder):
    image = (folder / "good.jpg").read_bytes()
    files = [("1.jpg", image), ("1.txt", b"ok"), ("2.jpg", image), ("3.jpg", image[:1500]), ("3.txt", b"cut")]
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    report = check(str(folder / "a.tar"))
    assert report.num_samples == 3 and nums(report) == {"malformed": 1, "media": 1}
    assert report.problems["malformed"].first[0][0] == "2" and report.problems["media"].first[0][0] == "3"
    (folder / "b.tar").write_bytes((folder / "a.tar").read_bytes()[:2500])
    report = check(str(folder / "b.tar"))
    assert not report.ok and report.problems["malformed"].num == 1


def test_source_object_and_empty_file(folder):
    sample = Sample(id="a", messages=(Message(role="user", content="Q"), Message(role="assistant", content="A")))
    assert check([sample]).ok
    (folder / "none.json").write_text("[]")
    report = check(str(folder / "none.json"))
    assert not report.ok and "no sample was found" in report.render()
    with pytest.raises(ZooError, match=r"Did you mean 'none\.json'"):
        check(str(folder / "nome.json"))


def test_limit_leaves_the_rest_unread(folder):
    report = check(write(folder, llava("a", "Hi"), "broken"), limit=1)
    assert report.ok and report.num_samples == 1
