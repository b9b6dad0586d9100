"""How the video methods write a video into the prompt, and which frames and pixels reach the model."""

import dataclasses
import json

import pytest
import torch
from tiny import COLOURS, conversation, picture

from zoo.data.check import check
from zoo.data.frames import FrameSampling
from zoo.data.open import open_data
from zoo.data.sample import Medium
from zoo.data.template import render_text
from zoo.data.templates import get_template
from zoo.definition import get_setting
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.factory import build_model, configure
from zoo.registry import get_method
from zoo.show import length_check


def frames(count):
    return [picture(list(COLOURS)[index % 4], (20, 12), index) for index in range(count)]


def asked(count, text="<video>\nWhat moves?"):
    return conversation("v", [(text, "Red.")], [Medium(kind="video", source=frames(count), name="v")])


def written(template, sample, **options):
    return render_text(get_template(template).render(sample.messages, **options))


def test_a_video_before_or_behind_the_question():
    both = (asked(2), asked(2, "What moves?\n<video>"))
    trained = [written("video_chatgpt", sample) for sample in both]
    assert "USER: <video>\nWhat moves? ASSISTANT: Red.</s>" in trained[0]
    assert "USER: What moves?\n<video> ASSISTANT: Red.</s>" in trained[1]
    (prompt,) = {written("video_chatgpt", sample, generation=True) for sample in both}
    assert prompt.endswith("USER: What moves?\n<video> ASSISTANT:")
    for generation in (False, True):
        (form,) = {written("video_llama", sample, generation=generation) for sample in both}
        assert "###Human: <video>What moves?" in form


def test_soft_tokens_stand_between_the_marks(tiny_setting):
    model = build_model(configure("video-chatgpt", tiny_setting))
    tokenizer = model.language_model.tokenizer
    example = model.preprocessor()(asked(3), get_template("video_chatgpt"))
    places = example.media_mask.nonzero()[:, 0]
    assert len(places) == 9 + 16 and int(places[-1] - places[0]) == 24
    around = [int(example.ids[places[0] - 1]), int(example.ids[places[-1] + 1])]
    assert around == tokenizer.convert_tokens_to_ids(["<vid_start>", "<vid_end>"])
    model = build_model(configure("video-llama", tiny_setting))
    example = model.preprocessor()(asked(3), get_template("video_llama"))
    places = example.media_mask.nonzero()[:, 0]
    before, after = example.ids[: places[0]], example.ids[places[-1] + 1 :]
    tokenizer = model.language_model.tokenizer
    assert tokenizer.decode(before).endswith("Human: <Video>")
    assert tokenizer.decode(after).startswith("</Video> What moves?")


@pytest.mark.parametrize("name", ["video-chatgpt", "video-llama", "video-llava"])
def test_a_method_looks_at_the_frames_of_its_rule(name, tiny_setting):
    sampling = dataclasses.replace(get_method(name).frames, num_frames=4)
    method = dataclasses.replace(configure(name, tiny_setting), frames=sampling)
    preprocessor = build_model(method).preprocessor()
    sample = asked(11)
    example = preprocessor(sample, get_template(method.template))
    assert example.num_frames == (4,)
    chosen = [preprocessor.video_transform.apply(frames(11)[index])[0] for index in sampling.indices(11)]
    assert torch.equal(example.frames, torch.stack(chosen))


def test_frames_have_the_transform_of_their_own_tower(tiny_setting):
    method = configure("video-llava", tiny_setting)
    assert (method.encoder.resize, method.encoder.video.resize) == ("pad", "crop")
    assert method.encoder.video.id == method.encoder.id and method.encoder.video.image_size == method.encoder.image_size
    model = build_model(method)
    template = get_template(method.template)
    wide = frames(1)[0]
    image = conversation("i", [("<image>\nWhat?", "Red.")], [Medium(kind="image", source=wide)])
    video = conversation("v", [("<video>\nWhat?", "Red.")], [Medium(kind="video", source=[wide])])
    pixels = [model.preprocessor()(sample, template).frames for sample in (image, video)]
    assert torch.equal(pixels[0][0], model.encoder.transform.apply(wide)[0])
    assert torch.equal(pixels[1][0], model.encoder.video.transform.apply(wide)[0])
    assert not torch.equal(pixels[0][0], pixels[1][0])


def test_a_setting_fixes_the_number_of_frames_of_methods_that_choose(tiny_setting):
    setting = dataclasses.replace(get_setting(tiny_setting), frames={"num_frames": 3})
    method, overrode = get_method("video-llama").under(setting)
    assert method.frames == FrameSampling(kind="arange", num_frames=3)
    assert "frames.num_frames: 8 -> 3" in overrode
    assert get_method("llava").under(setting)[0].frames is None


def test_the_length_check_counts_frames(tiny_setting, tmp_path):
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames(9)):
        frame.save(tmp_path / "frames" / f"{index}.png")
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "Red."}]
    record = {"id": "v", "video": "frames", "conversations": turns}
    (tmp_path / "data.json").write_text(json.dumps([record]))
    source = open_data(str(tmp_path / "data.json"))
    for name, num_tokens in (("llava-1.5", 9 * 16), ("video-llava", 8 * 17), ("video-llama", 4)):
        assert int(length_check(name, tiny_setting)(source[0]).media_mask.sum()) == num_tokens, name
    frames(1)[0].save(tmp_path / "frames" / "9.png")
    with pytest.raises(ZooError, match="num_temporal 9"):
        length_check("video-chatgpt", tiny_setting)(source[0])
    assert check(str(tmp_path / "data.json"), progress=False).ok


def test_published_sizes_on_the_meta_device():
    from zoo.factory import build_on_meta

    counted = {name: build_on_meta(get_method(name)) for name in ("video-chatgpt", "video-llama", "video-llava")}
    tokens = {
        name: [model.num_media_tokens([count], [video])[0] for count, video in ((1, False), (8, True))]
        for name, model in counted.items()
    }
    assert tokens == {"video-chatgpt": [356, 356], "video-llama": [32, 32], "video-llava": [256, 2056]}
    connector = {name: sum(p.numel() for p in model.connector.parameters()) for name, model in counted.items()}
    assert connector["video-chatgpt"] == 1024 * 4096 + 4096
    assert connector["video-llava"] == 1025 * 4096 + 4097 * 4096
    towers = counted["video-llava"].encoder
    assert isinstance(towers.config, EncoderConfig) and towers.video.family.is_temporal
