"""The method file that README shows is a method: it builds, trains and answers under the contract's tiny setting."""

import re
import sys
from pathlib import Path

import yaml

from zoo import registry
from zoo.api import evaluate, train

README = Path(__file__).parents[1] / "README.md"


def block(language, start):
    return next(
        b for b in re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL) if b.startswith(start)
    )


def test_the_method_of_the_readme_works(tmp_path, monkeypatch, tiny_setting, data_file):
    code = block("python", '"""Pooled')
    assert len(code.splitlines()) < 150
    (tmp_path / "pooled.py").write_text(code)
    facts = yaml.safe_load(block("yaml", "pooled:"))
    assert registry.schema_errors("pooled", facts["pooled"]) == []
    import methods

    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    known = registry.entries()
    monkeypatch.setattr(registry, "entries", lambda: known | facts)
    model = train("pooled", tmp_path / "run", tiny_setting, data=str(data_file), quiet=True)
    assert model.num_media_tokens([1]) == [4]
    rows = evaluate(model, ["scenes:shape?num_items=3&image_size=32"])
    assert [row["method"] for row in rows] == ["pooled"] * 3
    sys.modules.pop("methods.pooled")
