"""Rules by primitive: `register` connects a JAX primitive with the function that lowers it.

A rule receives the lowering in progress, the equation, and the values of its operands; it returns
the value of its result (or a sequence of values for a primitive with several results).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jax.extend import core

if TYPE_CHECKING:
    from anvil_jax.lowering.values import Value

type Rule = Callable[..., Value | Sequence[Value]]

RULES: dict[core.Primitive | str, Rule] = {}


def register(*primitives: core.Primitive | str) -> Callable[[Rule], Rule]:
    """Decorator: lowers `primitives` with the decorated rule.

    A rule for your own primitive looks like this::

        @anvil_jax.lowering.register(my_primitive)
        def lower_my_primitive(lowering, eqn, x, y):
            return lowering.elementwise(lowering.ex.add, eqn, x, y)

    Args:
        *primitives: primitive objects; a string names a primitive that JAX does not export.

    Returns:
        The decorator, which returns the rule unchanged. A later registration replaces an
        earlier one.
    """

    def connect(rule: Rule) -> Rule:
        for primitive in primitives:
            RULES[primitive] = rule
        return rule

    return connect


def rule_for(primitive: Any) -> Rule | None:
    """The rule of a primitive, by object first, then by name."""
    return RULES.get(primitive) or RULES.get(primitive.name)
