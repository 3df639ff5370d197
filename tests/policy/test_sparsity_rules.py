"""Every primitive that is lowered has an answer to how its derivative is sparse."""

from anvil_jax.lowering import families as lowering_families
from anvil_jax.lowering.registry import RULES as LOWERED
from anvil_jax.sparsity import rules
from anvil_jax.sparsity.rules.registry import RULES, VALUE_ONLY

# Families of lowering whose primitives are not JAX's: they are differentiated by their own rules,
# which lead to programs of ordinary primitives.
OWN = {"derivatives"}


def _lowered_names() -> set[str]:
    lowering_families.load()
    return {
        primitive if isinstance(primitive, str) else primitive.name
        for primitive, rule in LOWERED.items()
        if rule.__module__.rpartition(".")[2] not in OWN
    }


def test_every_lowered_primitive_has_a_sparsity_rule():
    rules.load()
    assert _lowered_names() - set(RULES) - VALUE_ONLY == set()


def test_rules_and_value_only_primitives_are_apart():
    rules.load()
    assert set(RULES) & VALUE_ONLY == set()


def test_families_have_the_names_of_lowering():
    assert set(rules.FAMILIES) <= set(lowering_families.FAMILIES)
