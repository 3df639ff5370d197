"""Templates print; they do not decide.

Allowed: loops, `if` on a field, `indent`, `join` and `length`, includes, imports, calls of macros.
Everything else is decided in Python, before the view is made.
"""

from pathlib import Path

import pytest
from jinja2 import Environment, nodes

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
FILTERS = {"indent", "join", "length"}
FORBIDDEN = {
    nodes.Compare: "a comparison",
    nodes.BinExpr: "arithmetic",
    nodes.Neg: "arithmetic",
    nodes.Pos: "arithmetic",
    nodes.Concat: "string building",
    nodes.Assign: "set",
    nodes.AssignBlock: "set",
}


def violations(source: str) -> list[str]:
    """Each forbidden construct of a template, as ``line: what``."""
    found = []
    tree = Environment().parse(source)
    for kind, what in FORBIDDEN.items():
        # `and` and `or` of fields are no arithmetic, though Jinja2 derives them from BinExpr.
        found += [
            (node.lineno, what)
            for node in tree.find_all(kind)
            if not isinstance(node, nodes.And | nodes.Or)
        ]
    for call in tree.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Name) and not _is_imported_macro(call, tree):
            found.append((call.lineno, "a method call"))
    for use in tree.find_all(nodes.Filter):
        if use.name not in FILTERS:
            found.append((use.lineno, f"filter {use.name}"))
    return [f"{line}: {what}" for line, what in sorted(found)]


def _is_imported_macro(call: nodes.Call, tree: nodes.Template) -> bool:
    """Whether this is ``module.macro(...)`` after ``{% import "..." as module %}``."""
    if not isinstance(call.node, nodes.Getattr) or not isinstance(call.node.node, nodes.Name):
        return False
    modules = {node.target for node in tree.find_all(nodes.Import)}
    return call.node.node.name in modules


@pytest.mark.parametrize(
    "path", sorted(TEMPLATES.rglob("*.j2")), ids=lambda path: str(path.relative_to(TEMPLATES))
)
def test_template_contains_no_decisions(path):
    assert violations(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{% if kind == 'dense' %}x{% endif %}", "a comparison"),
        ("{{ size + 1 }}", "arithmetic"),
        ("{{ -size }}", "arithmetic"),
        ("{{ name ~ '_t' }}", "string building"),
        ("{% set size = 3 %}", "set"),
        ("{% set size %}3{% endset %}", "set"),
        ("{{ name.upper() }}", "a method call"),
        ("{{ views[0](1) }}", "a method call"),
        ("{{ name | upper }}", "filter upper"),
    ],
)
def test_forbidden_construct_is_found(source, what):
    assert violations(source) == [f"1: {what}"]


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in xs %}{{ x.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
        "{% if a.is_open and a.is_wide %}x{% endif %}",
        "{{ names | join(', ') | indent(4) }}",
        "{% import 'm.j2' as m %}{{ m.row(x) }}",
        "{% macro row(x) %}{{ x }}{% endmacro %}{{ row(1) }}",
    ],
)
def test_allowed_construct_passes(source):
    assert violations(source) == []
