"""Every rule has a case that exercises it, and docs/supported.md says what the registry holds."""

import pytest
from jax.extend.core import Primitive

from anvil_jax.lowering import interpreter, lower
from anvil_jax.lowering.registry import rule_for
from anvil_jax.tracing import trace
from tests.cases.table import TABLE
from tests.support.supported import DOCUMENT, render, rules_by_family

# Names under which other versions of JAX know primitives, or which only arise on other devices:
# registered so that they work, not reachable from a case.
UNREACHABLE = {"checkpoint", "closed_call", "remat", "sharding_constraint"}


def test_every_rule_has_a_case(monkeypatch: pytest.MonkeyPatch):
    used: set[str] = set()

    def observed(primitive: Primitive):
        used.add(primitive.name)
        return rule_for(primitive)

    monkeypatch.setattr(interpreter, "rule_for", observed)
    for cases in TABLE.values():
        for c in cases:
            lower(trace(c.function, c.inputs))
    registered = {name for rules in rules_by_family().values() for name in rules}
    assert registered - used == UNREACHABLE


def test_families_have_cases():
    assert set(rules_by_family()) | {"programs"} == set(TABLE)


def test_document_equals_registry():
    wanted = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.is_file() else ""
    assert wanted == render(), "run: python -m tests.support.supported --write"
