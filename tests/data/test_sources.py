import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from zoo.data.media import load_frames
from zoo.data.sources import JsonSource, RecordError, jsonindex, open_source
from zoo.data.sources.webdataset import TarSource, expand_shards
from zoo.errors import ZooError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def llava(id="a", question="<image>\nWhat?", answer="A cat.", **fields):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": id, "conversations": turns, **fields}


def write(path, *records):
    if path.suffix == ".json":
        path.write_text(json.dumps(list(records)))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def contents(sample):
    return [message.content for message in sample.messages]


def same(item):
    return item


# LLaVA


@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_llava_image_images_video_and_text(tmp_path, name):
    path = write(
        tmp_path / name,
        llava("one", "What is it? <image>", image="x/1.jpg"),
        llava("two", "Compare <image> with <image>.", image=["1.jpg", "2.jpg"], model="gpt"),
        llava("clip", "What happens?\n<video>", video="clip"),
        llava(7, "Hello", image=None),
    )
    source = open_source(path)
    one, two, clip, text = source
    assert len(source) == 4
    assert [message.role for message in one.messages] == ["user", "assistant"]
    assert contents(one) == ["<image>\nWhat is it?", "A cat."]
    assert one.media[0].source == str(tmp_path / "x/1.jpg")
    assert contents(two)[0] == "Compare <image> with <image>."
    assert [os.path.basename(medium.source) for medium in two.media] == ["1.jpg", "2.jpg"]
    assert two.info == {"model": "gpt"}
    assert contents(clip)[0] == "<video>\nWhat happens?" and clip.media[0].kind == "video"
    assert text.id == "7" and text.media == ()


def test_llava_several_turns_each_take_the_next_medium(tmp_path):
    record = llava(image=["1.jpg", "2.jpg"], video="v")
    record["conversations"] = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "first <image>"},
        {"from": "gpt", "value": "ok"},
        {"from": "human", "value": "<video> and <image>"},
        {"from": "gpt", "value": "ok"},
    ]
    sample = open_source(write(tmp_path / "t.json", record))[0]
    assert [os.path.basename(medium.source) for medium in sample.media] == ["1.jpg", "v", "2.jpg"]
    assert contents(sample)[1] == "<image>\nfirst" and contents(sample)[3] == "<video> and <image>"


def test_llava_placeholder_alone_and_video_marked_as_image(tmp_path):
    path = write(tmp_path / "t.jsonl", llava(question=" <image>\n", image="1.jpg"), llava(video=[["f1", "f2"]]))
    first, second = open_source(path)
    assert contents(first)[0] == "<image>"
    assert contents(second)[0] == "<video>\nWhat?"
    assert second.media[0].source == [str(tmp_path / "f1"), str(tmp_path / "f2")]


def test_missing_id_is_file_and_index(tmp_path):
    record = llava(image="1.jpg")
    del record["id"]
    assert open_source(write(tmp_path / "t.jsonl", record, record))[1].id == "t.jsonl:1"


def test_boxes(tmp_path):
    record = llava(question="<image> what is in <box>?", image="1.jpg", boxes=[[1, 2, 3, 4]])
    box = open_source(write(tmp_path / "t.json", record))[0].boxes[0]
    assert (box.x0, box.y0, box.x1, box.y1, box.medium) == (1, 2, 3, 4, 0)


# chat


def test_chat_content_parts_and_lists(tmp_path):
    parts = {
        "id": "parts",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "image", "path": "1.jpg"},
                    {"type": "text", "text": "Is "},
                    {"type": "box", "box": [1, 2, 3, 4]},
                    {"type": "text", "text": " in "},
                    {"type": "image"},
                    {"type": "text", "text": "?"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "No."}], "loss": False},
        ],
        "images": ["2.jpg"],
    }
    lists = {
        "messages": [
            {"role": "user", "content": "<image>in<video>?"},
            {"role": "assistant", "content": "Yes."},
        ],
        "images": ["3.jpg"],
        "videos": [["f1.png", "f2.png"]],
    }
    first, second = open_source(write(tmp_path / "chat.jsonl", parts, lists))
    assert contents(first) == ["Be brief.", "<image>\nIs <box> in <image>?", "No."]
    assert [os.path.basename(medium.source) for medium in first.media] == ["1.jpg", "2.jpg"]
    assert first.boxes[0].y1 == 4
    assert [message.supervised for message in first.messages] == [True, True, False]
    assert contents(second)[0] == "<image>in<video>?" and second.id == "chat.jsonl:1"
    assert [medium.kind for medium in second.media] == ["image", "video"]
    assert len(second.media[1].source) == 2


# bad records


@pytest.mark.parametrize(
    ("record", "problem", "words"),
    [
        (llava(image=3), "malformed", ["'image'", "int 3", "path"]),
        (llava(image=["1.jpg", 3]), "malformed", ["'image'", "int 3"]),
        (llava(image=""), "malformed", ["empty path"]),
        (llava(image="../1.jpg"), "malformed", ["leaves the media folder", "'../1.jpg'"]),
        (llava(image="a/../../1.jpg"), "malformed", ["leaves the media folder"]),
        (llava(image="https://x.org/1.jpg"), "malformed", ["address", "download"]),
        (llava(), "placeholders", ["1 <image>", "0 image(s)", "one <image>"]),
        (llava(image=["1.jpg", "2.jpg"]), "placeholders", ["1 <image>", "2 image(s)"]),
        (llava(question="Hi", video="v"), "placeholders", ["0 <video>", "1 video(s)"]),
        (llava(image="1.jpg", boxes=[[1, 2, 3, 4]]), "placeholders", ["0 <box>", "1 boxes"]),
        (llava(question="<image> <box>", image="1.jpg", boxes=[[3, 2, 1, 4]]), "malformed", ["corners"]),
        (llava(question="<image> <box>", image="1.jpg", boxes=[["1", 2, 3, 4]]), "malformed", ["[x0, y0, x1, y1]"]),
        (llava(image="1.jpg") | {"conversations": []}, "malformed", ["'conversations'", "list of turns"]),
        (llava() | {"conversations": ["hi"]}, "malformed", ["turn 0", "str 'hi'"]),
        (llava() | {"conversations": [{"from": "humn", "value": "x"}]}, "malformed", ["'humn'", "'human'"]),
        (llava() | {"conversations": [{"from": "gpt", "value": 1}]}, "malformed", ["'value' of turn 0"]),
        ({"id": "a", "messages": [{"role": "usr", "content": "x"}]}, "malformed", ["'usr'", "'user'"]),
        ({"id": "a", "messages": [{"role": "user", "content": 1}]}, "malformed", ["'content' of message 0"]),
        ({"id": "a", "messages": [{"role": "user", "content": [{"type": "imge"}]}]}, "malformed", ["'image'"]),
        ({"id": "a", "messages": [{"role": "user", "content": "x", "loss": 2}]}, "malformed", ["'loss'"]),
        ({"id": "a", "messages": [{"role": "user", "content": "x"}], "images": ["1"]}, "placeholders", ["0 <image>"]),
        ({"id": "a", "messages": [{"role": "user", "content": "<image>"}]}, "placeholders", ["1 <image>", "0 image"]),
    ],
)
def test_bad_record_names_file_index_id_and_fix(tmp_path, record, problem, words):
    source = open_source(write(tmp_path / "t.jsonl", record))
    with pytest.raises(RecordError) as caught:
        source[0]
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/t.jsonl: sample 0") and "'a'" in message and "\n" not in message
    for word in words:
        assert word in message
    assert caught.value.problem == problem and caught.value.sample_id == "a"


@pytest.mark.parametrize(
    ("record", "word"),
    [(3, "int 3"), ({"image": "1.jpg", "caption": "x"}, "caption, image"), (llava(id=[1]), "'id' is list")],
)
def test_record_that_is_none(tmp_path, record, word):
    with pytest.raises(RecordError, match=word):
        open_source(write(tmp_path / "t.json", record))[0]


def test_absolute_path_and_media_root(tmp_path):
    path = write(tmp_path / "t.jsonl", llava(image="/somewhere/1.jpg"), llava(image="x/./1.jpg"))
    source = open_source(path, media_root="/media")
    assert [sample.media[0].source for sample in source] == ["/somewhere/1.jpg", "/media/x/1.jpg"]


# files


def test_malformed_json_names_byte_and_sample(tmp_path):
    path = tmp_path / "t.jsonl"
    good = json.dumps(llava(image="1.jpg"))
    path.write_text(good + "\n" + '{"id": "é", "image": }\n' + good)
    source = open_source(str(path))
    assert len(source) == 3 and source[2].id == "a"
    position = path.read_bytes().index(b"}\n" + good.encode())
    with pytest.raises(RecordError, match=rf"t\.jsonl: sample 1: malformed JSON at byte {position}"):
        source[1]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b'[{"a": 1}, {"b": "x', "sample 1: malformed JSON at byte 17.*cut off at byte 19"),
        (b'[{"a: 1}, {"b": 2}]', "sample 0: malformed JSON.*never closed"),
        (b'[{"a": 1}', r"array of 1 samples is never closed.*byte 9"),
        (b'[{"a": 1}] []', "more data after the array's end at byte 11"),
        (b'\xef\xbb\xbf[{"a": 1}]\n x', "byte 15"),
    ],
)
def test_damaged_array(tmp_path, data, word):
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(ZooError, match=word):
        open_source(str(path))


def test_not_utf8_and_byte_order_mark(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(llava(image="1.jpg")).encode() + b'\n{"id": "\xff"}\n')
    source = open_source(str(path))
    assert source[0].id == "a"
    with pytest.raises(RecordError, match="sample 1: not UTF-8 at byte"):
        source[1]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("trian.json", "Did you mean 'train.json'"),
        ("train.csv", "unknown extension '.csv'"),
        ("sceens:caption", "no known form"),
        ("part-{000..001}.tar", "part-000.tar"),
        ("part-{000..001.tar", "part-"),
        ("*.tar", "no such file"),
    ],
)
def test_unknown_specs(tmp_path, monkeypatch, spec, word):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.json", llava(question="Hi"))
    (tmp_path / "train.csv").write_text("x")
    with pytest.raises(ZooError) as caught:
        open_source(spec)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_folder(tmp_path):
    with pytest.raises(ZooError, match=r"0 \.tar and 0 JSON"):
        open_source(str(tmp_path))
    write(tmp_path / "a.json", llava(question="Hi"))
    assert len(open_source(str(tmp_path))) == 1
    write(tmp_path / "b.jsonl", llava(question="Hi"))
    with pytest.raises(ZooError, match=r"2 JSON files \(a\.json, b\.jsonl\)"):
        open_source(str(tmp_path))


def test_index_bounds(tmp_path):
    source = open_source(write(tmp_path / "t.json", llava("a", "Hi"), llava("b", "Hi")))
    assert source[-1].id == "b" and source[np.int64(0)].id == "a"
    for index in (2, -3):
        with pytest.raises(IndexError):
            source[index]


# the index

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters() | st.sampled_from('"\\[]{},\n')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('"\\[]{},x é'), inner, max_size=4),
    max_leaves=12,
)


def ranges_as_values(path):
    data = path.read_bytes()
    return [json.loads(data[begin:end]) for begin, end in jsonindex.scan(str(path))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(json_values, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    padding=st.text(" \t\r\n", max_size=3),
    chunk=st.integers(1, 40),
)
def test_ranges_of_an_array_are_its_elements(tmp_path_factory, values, indent, ascii_only, padding, chunk):
    path = tmp_path_factory.mktemp("array") / "t.json"
    text = padding + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + padding
    path.write_bytes(text.encode("utf-8", "surrogatepass") if ascii_only else text.encode("utf-8", "replace"))
    expected = json.loads(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonindex, "CHUNK_BYTES", chunk)
        assert ranges_as_values(path) == expected


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.dictionaries(st.text('"\\[]{},x é\n'), json_values, min_size=1, max_size=3), min_size=1),
    blank=st.sampled_from(["", "\n", " \t\n", "\r\n"]),
    last=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_ranges_of_lines_are_the_records(tmp_path_factory, values, blank, last, chunk):
    path = tmp_path_factory.mktemp("lines") / "t.jsonl"
    path.write_text(("\n" + blank).join(json.dumps(value) for value in values) + ("\n" if last else ""), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonindex, "CHUNK_BYTES", chunk)
        assert ranges_as_values(path) == values


def test_nested_braces_quotes_unicode_and_whitespace(tmp_path):
    path = tmp_path / "t.json"
    answer = 'He said "}]," \\ and [{"] \\\\" 猫 \u2028 end\\'
    records = [llava(str(index), "Hi", answer, extra={"a": [{"b": ["}"]}, []]}) for index in range(3)]
    path.write_text("\n\t " + json.dumps(records, indent=3, ensure_ascii=False).replace("},", "}\r\n ,") + "\n\n")
    samples = list(open_source(str(path)))
    assert [sample.id for sample in samples] == ["0", "1", "2"]
    assert all(contents(sample)[1] == answer for sample in samples)
    path.write_text(" [ \n ] ")
    assert len(open_source(str(path))) == 0


def test_cache_is_used_and_renewed_when_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonindex, "CACHE_FROM_BYTES", 0)
    path = tmp_path / "t.json"
    write(path, *(llava(str(index), "Hi") for index in range(5)))
    source = open_source(str(path))
    cache = jsonindex.cache_file(str(path))
    assert isinstance(source._records._ranges, np.memmap) and cache.exists()
    with monkeypatch.context() as patch:
        patch.setattr(jsonindex, "scan", lambda path: pytest.fail("scanned again"))
        assert open_source(str(path))[4].id == "4"
    write(path, *(llava(str(index), "Hello there") for index in range(3)))
    with pytest.raises(ZooError, match="changed while it was in use"):
        source[4]
    renewed = open_source(str(path))
    assert [sample.id for sample in renewed] == ["0", "1", "2"]
    cache.write_bytes(b"damaged")
    assert len(open_source(str(path))) == 3 and isinstance(open_source(str(path))._records._ranges, np.memmap)
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]


def test_index_stays_in_memory_where_no_cache_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonindex, "CACHE_FROM_BYTES", 0)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the cache folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    source = open_source(write(tmp_path / "t.json", llava("a", "Hi"), llava("b", "Hi")))
    assert not isinstance(source._records._ranges, np.memmap)
    assert [sample.id for sample in source] == ["a", "b"]


def test_pickle_carries_no_records_and_no_handle(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonindex, "CACHE_FROM_BYTES", 0)
    path = write(tmp_path / "t.jsonl", *(llava(str(index), "Hi") for index in range(500)))
    source = open_source(path)
    pickled = pickle.dumps(source)
    assert len(pickled) < 1000
    copy = pickle.loads(pickled)
    assert isinstance(copy, JsonSource) and [copy[index].id for index in (499, 0)] == ["499", "0"]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_every_sample_once(tmp_path, context):
    path = write(tmp_path / "t.json", *(llava(str(index), "Hi") for index in range(30)))
    loader = DataLoader(
        open_source(path), batch_size=None, num_workers=2, multiprocessing_context=context, collate_fn=same
    )
    assert sorted(int(sample.id) for sample in loader) == list(range(30))


# tar shards


def png(shade=0):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def captions(path, start, stop):
    files = []
    for index in range(start, stop):
        files += [(f"{index:04d}.png", png(index)), (f"{index:04d}.txt", f"caption {index}\n".encode())]
    return write_tar(path, files)


def test_tar_records_captions_and_images(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("./README", b"no key"),
            ("d/1.png", png(1)),
            ("d/1.json", llava("x", "What? <image>", image="somewhere/else.jpg", source="s")),
            ("2.PNG", png(2)),
            ("2.txt", b"A dog.\n"),
            ("3.10.png", png(30)),
            ("3.2.png", png(31)),
            ("3.json", {"caption": "Two.", "url": "u"}),
            ("4.a.png", png(40)),
            ("4.b.png", png(41)),
            ("4.json", llava("y", "<image><image>", image=["img/4.b.png", "img/4.a.png"])),
            ("5.json", {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}),
        ],
    )
    samples = list(open_source(path))
    reds = [[load_frames(medium)[0].getpixel((0, 0))[0] for medium in sample.media] for sample in samples]
    assert [sample.id for sample in samples] == ["x", "2", "3", "y", "5"]
    assert reds == [[1], [2], [31, 30], [41, 40], []]
    assert contents(samples[0])[0] == "<image>\nWhat?" and samples[0].info == {"source": "s"}
    assert contents(samples[1]) == ["<image>", "A dog."]
    assert contents(samples[2]) == ["<image>\n<image>", "Two."] and samples[2].info == {"url": "u"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("1.png", png()), ("1.json", b"{")], ["sample '1'", "malformed JSON"]),
        ([("1.png", png())], ["sample '1'", "neither .json nor .txt", "png"]),
        ([("1.txt", b"x")], ["without an image", "adjacent"]),
        ([("1.png", png()), ("1.txt", b"\xff")], ["not UTF-8"]),
        ([("1.png", png()), ("1.json", {"caption": 3})], ["sample '1'", "caption"]),
        ([("1.png", png()), ("1.json", [1])], ["list [1]"]),
        ([("1.mp4", b"x"), ("1.txt", b"x")], ["videos in a shard (mp4)"]),
        ([("1.png", png()), ("1.0.png", png()), ("1.json", llava())], ["1 <image>", "2 image(s)"]),
        ([("1.png", png()), ("1.PNG", png())], ["sample '1' has two files .png"]),
    ],
)
def test_tar_bad_sample_names_shard_and_key(tmp_path, files, words):
    path = write_tar(tmp_path / "a.tar", files)
    with pytest.raises(ZooError) as caught:
        list(open_source(path))
    message = str(caught.value)
    assert message.startswith(path) and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("cut", ["inside a file", "between two files", "garbage header", "empty", "no tar"])
def test_damaged_shard_names_shard_and_key(tmp_path, cut):
    path = tmp_path / "a.tar"
    captions(path, 0, 3)
    data = path.read_bytes()
    third = data.index(b"0002.png")
    damaged = {
        "inside a file": data[: third + 560],
        "between two files": data[:third],
        "garbage header": data[:third] + b"\x07" * 512 + data[third + 512 :],
        "empty": b"",
        "no tar": b"x" * 2000,
    }[cut]
    path.write_bytes(damaged)
    found = []
    with pytest.raises(ZooError) as caught:
        for sample in open_source(str(path)):
            found.append(sample.id)
    message = str(caught.value)
    assert str(path) in message and "cut off" in message and "\n" not in message
    if cut in ("empty", "no tar"):
        assert found == [] and "cannot be read" in message
    else:
        key = "0002" if cut == "inside a file" else "0001"
        assert found == ["0000", "0001"] and f"in or after sample '{key}'" in message


@pytest.mark.parametrize("num_shards", [1, 3, 4, 5])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_are_split_without_loss_or_repetition(tmp_path, num_shards, num_workers):
    for shard in range(num_shards):
        captions(tmp_path / f"part-{shard:03d}.tar", shard * 7, shard * 7 + 7 - shard % 2)
    spec = str(tmp_path / f"part-{{000..{num_shards - 1:03d}}}.tar")
    everything = [sample.id for sample in open_source(spec)]
    shares = []
    for rank in range(2):
        source = open_source(spec, rank=rank, num_ranks=2)
        shares.append([sample.id for sample in DataLoader(source, batch_size=None, num_workers=num_workers)])
    assert len(everything) == sum(7 - shard % 2 for shard in range(num_shards)) == len(set(everything))
    assert sorted(shares[0] + shares[1]) == sorted(everything)
    if len(everything) > 7:
        assert all(shares)


def test_rank_comes_from_the_environment(tmp_path, monkeypatch):
    path = captions(tmp_path / "a.tar", 0, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert [sample.id for sample in open_source(path)] == ["0001", "0003"]
    with pytest.raises(ZooError, match="both or neither"):
        TarSource([path], rank=0)


def test_brace_patterns_globs_and_folders(tmp_path):
    for name in ("p-000.tar", "p-001.tar", "q.tar"):
        captions(tmp_path / name, 0, 1)
    assert [os.path.basename(shard) for shard in expand_shards(f"{tmp_path}/p-{{000..001}}.tar")] == [
        "p-000.tar",
        "p-001.tar",
    ]
    assert len(expand_shards(f"{tmp_path}/*.tar")) == 3
    assert len(open_source(str(tmp_path)).shards) == 3
    with pytest.raises(ZooError, match=r"p-002\.tar.*Did you mean 'p-00"):
        expand_shards(f"{tmp_path}/p-{{000..002}}.tar")


def test_tar_errors_can_be_collected(tmp_path):
    bad = write_tar(tmp_path / "a.tar", [("1.png", png()), ("2.png", png()), ("2.txt", b"ok"), ("3.txt", b"x")])
    good = captions(tmp_path / "b.tar", 7, 8)
    errors = []
    samples = TarSource([bad, str(tmp_path / "missing.tar"), good]).samples(on_error=errors.append)
    assert [sample.id for sample in samples] == ["2", "0007"]
    assert [getattr(error, "sample_id", None) for error in errors] == ["1", "3", None]
