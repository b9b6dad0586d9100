import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from zoo.errors import ZooError
from zoo.evaluation.charts import loss_chart, smooth, ticks
from zoo.evaluation.overview import Overview, _axis
from zoo.evaluation.report import read_curves, read_predictions, write_report
from zoo.evaluation.summary import summarise
from zoo.evaluation.table import format_interval

ATTACK = '<script>alert("owned")</script><img src=x onerror=alert(1)>'


def predictions(methods=("blind", "llava"), task="colour"):
    generator = np.random.default_rng(0)
    return [
        {
            "id": f"{task}-{at}",
            "group": f"scene-{at // 2}",
            "task": task,
            "score": float(generator.random() < 0.3 + 0.4 * (method != "blind")),
            "metric": "exact_match",
            "metric_version": "exact_match/1",
            "method": method,
            "seed": seed,
        }
        for method in methods
        for seed in (0, 1)
        for at in range(40)
    ]


def curves():
    rows = [{"stage": "align", "step": step, "loss": 4 / (1 + step)} for step in range(1, 101)]
    return {"llava": {0: [*rows, {"stage": "instruct", "step": 1, "loss": 1.0}], 1: rows}}


def example(**change):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    entry = {
        "task": "colour",
        "question": "What colour is the cube?",
        "references": ["red"],
        "image": image,
        "answers": {"blind": ("blue", False), "llava": ("red", True)},
        "boxes": {"reference": (5, 5, 20, 20), "llava": (6, 6, 25, 20)},
    }
    return entry | change


def report(tmp_path, **change):
    rows = change.pop("rows", predictions())
    comparison = summarise(
        rows,
        [
            {"method": "llava", "seed": 0, "visual_tokens": 49, "samples": 2048},
            {"method": "blind", "seed": 0, "visual_tokens": 0},
        ],
        baseline="blind",
        chance={"colour": 0.25},
    )
    given = {
        "predictions": change.pop("rows_shown", rows),
        "curves": curves(),
        "examples": [example()],
        "config_diff": "- depth: 1\n+ depth: 2",
    } | change
    write_report(tmp_path / "report.html", comparison, provenance=given.pop("provenance", {"commit": "abc"}), **given)
    return (tmp_path / "report.html").read_text(encoding="utf-8"), comparison


class Page(HTMLParser):
    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def test_report_is_well_formed_and_loads_nothing(tmp_path):
    text = report(tmp_path)[0]
    page = Page(text)
    assert page.open == []
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.tags.count("script") == 1 and f"script-src 'sha256-{digest}'" in text
    assert not {"link", "iframe", "img", "object"} & set(page.tags)
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src"):
            assert value.startswith("data:image/png;base64,")
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes
    assert "http://" not in "".join(page.text) + str(page.attributes)
    assert "https://" not in "".join(page.text) + str(page.attributes)


def test_nothing_of_the_input_becomes_markup(tmp_path):
    evil = ATTACK + " $title ${legend}"
    rows = [{**row, "task": evil if row["task"] == "colour" else row["task"]} for row in predictions(("blind", ATTACK))]
    hostile = example(task=evil, question=evil, references=[evil], answers={ATTACK: (evil, False), "blind": ("", True)})
    hostile["boxes"] = {ATTACK: (1, 1, 2, 2), '"><script>': (1, 1, 2, 2)}
    losses = [{"stage": ATTACK, "step": step, "loss": 1.0} for step in range(3)]
    text, _ = report(
        tmp_path,
        rows=rows,
        examples=[hostile],
        curves={ATTACK: {0: losses}},
        config_diff=evil,
        provenance={ATTACK: evil},
        title=evil,
    )
    page = Page(text)
    assert page.open == []
    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert ATTACK in "".join(page.text), "the text itself is still shown"
    assert "$title" in "".join(page.text), "and is no template"


def test_numbers_marks_and_costs_are_those_of_the_comparison(tmp_path):
    text, comparison = report(tmp_path)
    page = "".join(Page(text).text)
    for method in ("blind", "llava"):
        interval = comparison.results[method, "colour"].interval
        assert f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" in page
    for expected in ("✓ right llava: red", "✗ wrong blind: blue", "2,048", "+ depth: 2", "abc", "seeds 0, 1"):
        assert expected in page
    assert 'aria-label="Training loss in stage align"' in text
    assert "moving average over 2 steps" in page


def test_task_chart_places_mean_and_chance_to_scale(tmp_path):
    text, comparison = report(tmp_path)
    text = text.split('id="groups"')[0]
    ticks_at = {
        label: float(x) for x, label in re.findall(r'<text class="axis" x="([\d.]+)" y="16"[^>]*>(\d+) %', text)
    }
    width = ticks_at["100"] - ticks_at["0"]
    (chance,) = re.findall(r'<line class="chance" x1="([\d.]+)"[^/>]*><title>', text)
    assert float(chance) == pytest.approx(ticks_at["0"] + 0.25 * width, abs=0.1)
    mean = comparison.results["blind", "colour"].interval.mean
    (circle,) = re.findall(r'<circle class="m0 fill" cx="([\d.]+)" cy="[\d.]+" r="4.5"/></g>', text)
    assert float(circle) == pytest.approx(ticks_at["0"] + mean * width, abs=0.1)


def test_images_are_inline_frames_capped_and_boxes_in_pixels(tmp_path):
    frames = [Image.new("RGB", (1000, 500), (at * 10, 0, 0)) for at in range(20)]
    text, _ = report(tmp_path, examples=[example(image=frames)])
    found = re.findall(r'<svg viewBox="0 0 1000 500".*?data:image/png;base64,([^"]+)', text)
    assert len(found) == 8
    decoded = [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]
    assert {image.size for image in decoded} == {(384, 192)}
    assert (decoded[0].getpixel((0, 0))[0], decoded[-1].getpixel((0, 0))[0]) == (0, 190)
    assert '<rect class="reference box" x="5.0" y="5.0" width="15.0" height="15.0">' in text


def test_report_without_curves_examples_or_interval(tmp_path):
    rows = [{**row, "group": "one"} for row in predictions()]
    text, _ = report(tmp_path, rows=rows, curves={}, examples=[], config_diff="")
    page = "".join(Page(text).text)
    for expected in ("No training was recorded.", "No examples.", "[no interval]", "Nothing."):
        assert expected in page


def test_smoothing_and_ticks():
    values = np.asarray([0.0, 3.0, 0.0, 3.0, 0.0])
    assert smooth(values, 1).tolist() == values.tolist()
    assert smooth(values, 3).tolist() == pytest.approx([1.5, 1.0, 2.0, 1.0, 1.5])
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3, 3) == [3]
    assert ticks(0, 1234) == pytest.approx([0, 500, 1000])


def test_loss_chart_leaves_out_what_is_not_finite():
    rows = [{"stage": "align", "step": step, "loss": loss} for step, loss in enumerate([2.0, float("nan"), 1.0, None])]
    drawn = loss_chart({"llava": {0: rows}}, "align", ("llava",))
    assert "nan" not in drawn
    assert loss_chart({"llava": {0: rows[1:2]}}, "align", ("llava",)) == ""


def test_directory_is_read_back(tmp_path):
    for path, rows in (
        ("predictions/llava-1.5/seed-0/colour.jsonl", predictions()[:3]),
        ("runs/llava-1.5/seed-12/metrics.jsonl", curves()["llava"][1]),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_predictions(tmp_path) == predictions()[:3]
    assert read_curves(tmp_path) == {"llava-1.5": {12: curves()["llava"][1]}}
    (tmp_path / "predictions/llava-1.5/seed-0/colour.jsonl").write_text('{"id": 1}\n{"id"')
    with pytest.raises(ZooError, match=r"colour\.jsonl: line 2: malformed JSON"):
        read_predictions(tmp_path)


def both_tasks(methods=("blind", "llava", "llava-1.5")):
    return predictions(methods) + [
        row | {"metric": "yes_no", "metric_version": "yes_no/1 strict", "references": ["yes" if at % 2 else "no"],
               "parsed": "yes" if (at % 2) == row["score"] else "no"}
        for at, row in enumerate(predictions(methods, "existence"))
    ]  # fmt: skip


def test_methods_are_shown_as_wholes_and_against_each_other(tmp_path):
    rows = both_tasks()
    text, comparison = report(tmp_path, rows=rows)
    overview = Overview(comparison, rows)
    page = "".join(Page(text).text)
    for method in comparison.methods:
        assert format_interval(overview.means[method, "all tasks"]) in page
    assert overview.groups == {"all tasks": ["colour", "existence"]}, "both are questions on images"
    assert "2 / 0 / 0" in page and "0 / 0 / 2" in page and "0 / 2 / 0" in page
    pair = next(pair for pair in overview.pairs if (pair.second, pair.task) == ("llava", "colour"))
    assert f"{100 * pair.difference.mean:+.1f}" in page and f"{-100 * pair.difference.mean:+.1f}" in page
    figure = comparison.results["llava", "existence"].extra["figures"]["f1"]
    assert f"F1 {100 * figure['mean']:.1f} [{100 * figure['low']:.1f}" in page
    assert "Mean over all tasks against visual tokens per image" in page
    assert "Needs the predictions" in "".join(Page(report(tmp_path, rows_shown=[])[0]).text)


def test_costs_with_a_zero_and_far_apart_have_their_place():
    place, labels = _axis([0, 9, 900])
    assert labels == [0.0, 10.0, 100.0]
    assert place(0) < place(9) < place(90) < place(900) == pytest.approx(0.94)
    assert place(90) - place(9) == pytest.approx(place(900) - place(90))
    place, labels = _axis([9, 13])
    assert (place(9), place(13)) == pytest.approx((0.06, 0.94)) and labels == [9, 10, 11, 12, 13]


def test_large_photographs_are_jpeg(tmp_path):
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 255, (400, 400, 3), dtype=np.uint8))
    assert "data:image/jpeg;base64," in report(tmp_path, examples=[example(image=noise)])[0]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CLICKS = """<script>
const choose = (name, value) => {
  const field = document.getElementById(name);
  field.value = value;
  field.dispatchEvent(new Event("change", { bubbles: true }));
};
const shown = () => [...document.querySelectorAll(".example:not([hidden]) b")]
  .map((node) => node.textContent).filter((text) => text.endsWith("?")).join("");
const found = [shown()];
choose("filter-right", "1");
choose("filter-wrong", "0");
found.push(shown(), document.getElementById("filter-count").textContent);
const table = document.querySelector("#methods ~ .scroll table.sortable");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(",");
const button = table.tHead.rows[0].cells[1].querySelector("button");
button.click();
found.push(names());
button.click();
found.push(names());
choose("matrix-task", "0");
found.push([...document.querySelectorAll("[data-matrix]")].map((part) => part.hidden).join(","));
document.title = "CLICKED " + found.join(" | ");
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_a_browser_filters_sorts_and_switches_under_the_policy(tmp_path):
    answers = {
        "Both?": {"blind": ("a", True), "llava": ("a", True)},
        "Second?": {"blind": ("a", False), "llava": ("b", True)},
        "First?": {"blind": ("a", True), "llava": ("b", False)},
    }
    shown = [example(question=question, answers=given) for question, given in answers.items()]
    text, _ = report(tmp_path, rows=both_tasks(("blind", "llava")), examples=shown)
    # The clicks are a second script, which the page's policy would refuse: it is let in by its own hash.
    clicks = re.findall("<script>(.*)</script>", CLICKS, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(clicks.encode()).digest()).decode()
    text = text.replace("script-src '", f"script-src 'sha256-{digest}' '", 1).replace("</body>", CLICKS)
    (tmp_path / "clicked.html").write_text(text)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dumped = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "clicked.html").as_uri()], capture_output=True, text=True, timeout=120
    ).stdout
    (title,) = re.findall("<title>CLICKED (.*?)</title>", dumped)
    before, after, count, descending, ascending, hidden = title.split(" | ")
    assert before == "Both?Second?First?"
    assert (after, count) == ("Second?", "1 of 3 items")
    assert (descending, ascending) == ("llava,blind", "blind,llava")
    assert hidden == "true,false,true"
