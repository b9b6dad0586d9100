"""Methods on pictures end to end: trained, evaluated, and aligned by contrast before any captioning."""

import pytest
import torch
import yaml

import zoo
from zoo.connectors.alignment import alignment_loss
from zoo.data.batch import pad
from zoo.data.pictures import PictureSource
from zoo.data.templates import get_template
from zoo.definition import get_setting
from zoo.errors import ZooError
from zoo.evaluation.runner import Decoding, Evaluator
from zoo.evaluation.summary import summarise
from zoo.evaluation.table import render_table
from zoo.evaluation.tasks import load_items, scene_specs
from zoo.packaged import ASSET, CATALOGUE

MIXTURE = "pictures:mixture?num_samples=40&weights=caption:2,canvas_locate:1,canvas_region:1,clip_name:1"


@pytest.fixture(scope="module")
def setting(tiny_setting, tmp_path_factory):
    """The tiny parts on pictures, with tasks of theirs."""
    values = yaml.safe_load(open(tiny_setting))
    for stage in values["stages"].values():
        stage |= {"data": MIXTURE, "steps": 2, "batch": 4}
    tasks = ["stamp_caption", "stamp_image_choice", "canvas_locate", "canvas_region", "clip_name"]
    values["evaluation"] = {"tasks": tasks, "num_items": 4, "max_new_tokens": 4}
    file = tmp_path_factory.mktemp("setting") / "pictures.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


@pytest.mark.parametrize("method", ["llava-1.5", "instructblip", "openflamingo", "gpt4roi", "video-chatgpt"])
def test_a_method_a_family_trains_on_pictures(method, setting, pictures, tmp_path):
    model = zoo.train(method, tmp_path / "run", setting, quiet=True)
    rows = zoo.evaluate(model, [f"pictures:{task}?num_items=8" for task in ("stamp_image_choice", "canvas_region")])
    assert len(rows) == 16 and all(0 <= row["score"] <= 1 for row in rows)


def test_blind_is_at_chance_in_choosing_images(setting, pictures):
    model = zoo.build("blind", setting)
    items = load_items("pictures:stamp_image_choice?num_items=9")
    rows = Evaluator(model, decoding=Decoding()).evaluate(items)
    assert [row["score"] for row in rows] == [1 / 8] * len(items)
    assert all(row["loss"]["own"] == pytest.approx(row["loss"]["others"], rel=1e-5) for row in rows)


def test_losses_are_in_results_and_table(setting, pictures):
    rows = Evaluator(zoo.build("llava-1.5", setting), decoding=Decoding()).evaluate(
        load_items("pictures:stamp_image_choice?num_items=8")
    )
    comparison = summarise(rows, baseline="llava-1.5")
    (row,) = comparison.rows()
    own = sum(row["loss"]["own"] for row in rows) / len(rows)
    assert row["loss"]["own"] == pytest.approx(own) and own > 0
    assert f"llava-1.5 {own:.2f} and {row['loss']['others']:.2f}" in " ".join(render_table(comparison).split())


class TestStage0:
    def test_loss_is_low_where_tokens_lie_on_their_words(self):
        generator = torch.Generator().manual_seed(0)
        words = torch.randn(6, 16, generator=generator)
        belongs = torch.tensor([0, 0, 1, 1, 2, 2])
        means = words.view(3, 2, 16).mean(1)
        # Two tokens a medium around the mean of its words.
        media = torch.stack([means + 0.01, means - 0.01], 1).flatten(0, 1)
        aligned = alignment_loss(media, (2, 2, 2), words, belongs)
        assert aligned < alignment_loss(media.roll(2, 0), (2, 2, 2), words, belongs) - 5
        # Length is a part of its own: ten times as long costs log(10) squared.
        scale = (words.norm(dim=-1).mean() / media.norm(dim=-1).mean()).log()
        longer = alignment_loss(10 * media, (2, 2, 2), words, belongs)
        expected = (torch.tensor(10.0).log() - scale) ** 2 - scale**2
        assert float(longer - aligned) == pytest.approx(float(expected), rel=1e-4)
        # A medium of which nothing is said takes no part.
        more = torch.cat([media, torch.full((1, 16), 0.1)])
        norm = (more.norm(dim=-1).mean().log() - words.norm(dim=-1).mean().log()) ** 2
        without = (media.norm(dim=-1).mean().log() - words.norm(dim=-1).mean().log()) ** 2
        assert float(alignment_loss(more, (2, 2, 2, 1), words, belongs) - norm) == pytest.approx(
            float(aligned - without), abs=1e-5
        )

    def test_it_trains_the_connector_alone_and_brings_pairs_together(self, setting, pictures, tmp_path):
        stage = {"stages.align.objective": "contrastive", "stages.align.data": "pictures:caption?num_samples=40"}
        short = {
            "stages.align.steps": 30,
            "stages.align.batch": 8,
            "training.micro_batch": 8,
            "stages.instruct.steps": 1,
        }
        losses = []
        before = zoo.build("llava-1.5", setting, **stage)
        samples = [PictureSource("caption", num_samples=40)[index] for index in range(8)]

        def loss(model):
            template = get_template(model.method.stages[0].template)
            batch = pad([model.preprocessor()(sample, template) for sample in samples], pad_id=0)
            with torch.no_grad():
                output = model(batch, objective="contrastive")
            return float(output.loss_sum) / output.num_supervised

        trained = zoo.train("llava-1.5", tmp_path / "run", setting, quiet=True, **stage, **short)
        losses = [loss(before), loss(trained)]
        assert losses[1] < losses[0] - 0.5

    def test_tokens_of_another_width_are_refused(self, setting, pictures, tmp_path):
        # Flamingo's soft tokens are as wide as the features, here those of two layers.
        wide = {"stages.align.objective": "contrastive", "encoder.layers": [-2, -1]}
        with pytest.raises(ZooError, match=r"openflamingo: soft tokens of width 64 cannot be compared .* width 32"):
            zoo.train("openflamingo", tmp_path, setting, quiet=True, **wide)


@pytest.mark.parametrize("name", ["real-small", "real-small-cnn"])
def test_settings_ask_for_what_there_is(name):
    setting = get_setting(name)
    ids = [setting.encoder["id"], setting.language_model["id"]]
    assert all(id.removeprefix(ASSET) in CATALOGUE for id in ids)
    assert all(spec.startswith("pictures:") for spec in scene_specs(setting.evaluation.tasks, 1, 0, None))
