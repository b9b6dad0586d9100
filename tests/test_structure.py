"""Rules on the code itself: who may import whom, and what may not appear."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ZOO = sorted((ROOT / "zoo").rglob("*.py"))
METHODS = sorted(path for path in (ROOT / "methods").glob("*.py") if path.name != "__init__.py")
# A method that is built on another says so here: {"otter": {"openflamingo"}}.
BUILT_ON: dict[str, set[str]] = {
    "otter": {"openflamingo"},
    "llava_next_video": {"llava_next"},
    "llava_data_variants": {"llava", "llava_1_5"},
}


def relative(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Absolute names of all modules that a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{relative(path)}:{node.lineno} imports relatively"
            assert all(alias.name != "*" for alias in node.names), f"{relative(path)}:{node.lineno} imports *"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def tops(names):
    return {name.partition(".")[0] for name in names}


def dynamic_imports(path):
    """The source of the arguments of importlib.import_module and __import__."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func).endswith(("import_module", "__import__"))
    ]


@pytest.mark.parametrize("path", ZOO, ids=relative)
def test_zoo_knows_no_method(path):
    assert "methods" not in tops(imported(path))
    if any("methods" in argument for argument in dynamic_imports(path)):
        assert relative(path) == "zoo/registry.py"


@pytest.mark.parametrize("path", METHODS, ids=relative)
def test_methods_import_zoo_alone_and_are_short(path):
    names = imported(path)
    allowed = {f"methods.{name}" for name in BUILT_ON.get(path.stem, ())}
    for name in names:
        if name.startswith("methods"):
            assert any(name == other or name.startswith(f"{other}.") for other in allowed), name
    assert tops(names) - {"methods"} <= {"zoo", "torch", "einops", "collections", "dataclasses", "typing", "math"}
    assert not dynamic_imports(path)
    assert len(path.read_text().splitlines()) < 150
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [*ZOO, *METHODS], ids=relative)
def test_what_may_not_appear(path):
    tree = ast.parse(path.read_text())
    assert not tops(imported(path)) & {"torchvision", "tests", "pytest"}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {name for name in called if name.endswith(".cuda")}, "models and tensors go to a device by .to()"
    assert not {"set_trace", "breakpoint"} & (attributes | called)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            assert [ast.unparse(line) for line in node.body] != ["pass"], f"line {node.lineno}: a swallowed exception"


def test_every_module_is_importable():
    for path in (*ZOO, *METHODS):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            importlib.import_module(name)


def test_every_export_exists():
    import zoo

    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    assert set(zoo.__all__) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zoo.nothing


def test_every_method_is_in_the_registry():
    from zoo.registry import entries

    assert {path.stem for path in METHODS} == {facts["module"] for facts in entries().values()}
