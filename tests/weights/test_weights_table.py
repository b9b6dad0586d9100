"""The table of released checkpoints says of each how it is proven, from the registry alone."""

from zoo.cli import main
from zoo.registry import entries
from zoo.weights import published_ids
from zoo.weights.table import NUMERIC, render, rows


def test_every_checkpoint_has_a_row_and_a_proof():
    table = rows()
    assert [row["id"] for row in table] == [row["id"] for entry in entries().values() for row in entry["weights"]]
    assert all(row["verified"] for row in table)
    at_full_size = {row["id"] for row in table if "keys at full size" in row["verified"]}
    assert at_full_size == set(published_ids())
    assert NUMERIC.keys() <= {row["layout"] for row in table}
    # Whatever has a class of transformers is compared with it in numbers too.
    assert {row["layout"] for row in table if row["id"] in at_full_size} <= NUMERIC.keys()
    assert {row["form"] for row in table} == {"whole", "partial", "delta", "adapter"}


def test_it_is_printed(capsys):
    assert main(["weights"]) == 0
    printed = capsys.readouterr().out
    assert printed == render(rows()) + "\n"
    row = "| llava-hf/llava-1.5-7b-hf | llava-1.5 | llava-hf | whole | numeric (transformers), keys at full size |"
    assert row in printed
    assert "| blip2_pretrained_opt2.7b.pth | blip2 | blip2-opt-lavis | partial | numeric (LAVIS) |" in printed
