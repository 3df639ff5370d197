"""Templates print what was decided elsewhere, and nothing undefined."""

import jinja2
import pytest
from jinja2 import nodes

from anvil_jax.emit.environment import environment, render_template

DECISIONS = (
    nodes.Assign, nodes.AssignBlock, nodes.BinExpr, nodes.Call, nodes.Compare, nodes.CondExpr,
    nodes.Test, nodes.UnaryExpr,
)  # fmt: skip
TEMPLATES = environment().list_templates(["j2"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_take_no_decisions(name: str):
    loader = environment().loader
    assert loader is not None
    tree = environment().parse(loader.get_source(environment(), name)[0])
    assert [(type(n).__name__, n.lineno) for n in tree.find_all(DECISIONS)] == []
    assert {f.name for f in tree.find_all(nodes.Filter)} <= {"join", "length"}


def test_undefined_names_are_errors():
    with pytest.raises(jinja2.UndefinedError):
        render_template("cpu/module.hpp.j2")
