"""Names, facts and errors of the registry; published sizes counted without any weights."""

import copy
import subprocess
import sys

import pytest

import zoo
from zoo.errors import ZooError
from zoo.factory import build_on_meta
from zoo.registry import FAMILIES, entries, entry, get_method, list_methods, method, registry_path, schema_errors

NUM_PARAMETERS = {
    "llava": {"encoder": 303_179_776, "connector": 4_198_400, "language_model": 6_738_415_616},
    "llava-1.5": {"encoder": 303_507_456, "connector": 20_979_712, "language_model": 6_738_415_616},
    "blind": {"language_model": 6_738_415_616},
}


def test_methods_are_listed_in_the_order_of_the_file():
    assert list_methods() == zoo.list_methods() == list(entries())
    assert {"llava", "llava-1.5", "blind"} <= set(list_methods())


def test_methods_are_listed_by_family():
    assert list_methods("baseline") == ["blind"]
    assert sorted(name for family in FAMILIES for name in list_methods(family)) == sorted(list_methods())
    with pytest.raises(ZooError, match=r"unknown family 'lava'\. Did you mean 'llava'\?"):
        list_methods("lava")


def test_unknown_method_names_the_nearest():
    for ask in (entry, get_method, zoo.build):
        with pytest.raises(ZooError, match=r"unknown method 'llava-15'\. Did you mean 'llava-1\.5'\?"):
            ask("llava-15")


def test_facts_are_read_without_torch():
    code = (
        "import sys, zoo, zoo.registry, zoo.cli\n"
        "assert zoo.list_methods() and zoo.registry.entry('llava')['paper']['arxiv'] == '2304.08485'\n"
        "heavy = {'torch', 'transformers', 'numpy', 'omegaconf', 'methods'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=registry_path().parent, timeout=60)


def test_a_name_is_taken_once():
    with pytest.raises(ZooError, match=r"'llava' is registered twice, in methods\.llava and test_registry"):
        get_method("llava")
        method("llava")(test_a_name_is_taken_once)


def test_module_that_registers_another_name_is_said(monkeypatch):
    monkeypatch.setitem(entries(), "other", entries()["llava"])
    with pytest.raises(ZooError, match=r"methods/llava\.py registers no 'other'"):
        get_method("other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("paper"), "missing key 'paper'"),
        (lambda facts: facts.update(wights=[]), "unknown key 'wights'. Did you mean 'weights'?"),
        (lambda facts: facts.update(family="lava"), "unknown family 'lava'"),
        (lambda facts: facts.update(code=["url"]), "code must be a str"),
        (lambda facts: facts["capabilities"].append("smell"), "unknown capability 'smell'"),
        (lambda facts: facts["weights"][0].pop("licence"), "lacks 'licence'"),
        (lambda facts: facts["weights"][0].update(size=7), "has unknown key 'size'"),
        (lambda facts: facts["weights"][0].update(sha256="0f"), "weights.sha256 must be"),
        (lambda facts: facts["published"][0].update(value="78.5"), "published.value must be"),
    ],
)
def test_incomplete_entries_are_reported(change, message):
    facts = copy.deepcopy(entry("llava-1.5"))
    assert schema_errors("llava-1.5", facts) == []
    change(facts)
    errors = schema_errors("llava-1.5", facts)
    assert len(errors) == 1 and message in errors[0] and errors[0].startswith("llava-1.5: ")


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_published_sizes(name):
    parts = {
        part: sum(p.numel() for p in module.parameters()) for part, module in build_on_meta(get_method(name)).parts()
    }
    assert {part: number for part, number in parts.items() if number} == NUM_PARAMETERS[name]
