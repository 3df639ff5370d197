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
CONSUMERS: set[core.Primitive | str] = set()


def register(*primitives: core.Primitive | str, consumes: bool = False) -> Callable[[Rule], Rule]:
    """Decorator: lowers `primitives` with the decorated rule.

    A rule for your own primitive looks like this::

        @anvil_jax.lowering.register(my_primitive)
        def lower_my_primitive(lowering, eqn, x, y):
            return lowering.elementwise(lowering.ex.add, eqn, x, y)

    Args:
        *primitives: primitive objects; a string names a primitive that JAX does not export.
        consumes: the rule may overwrite the memory of operands marked `owned`.

    Returns:
        The decorator, which returns the rule unchanged. A later registration replaces an
        earlier one.
    """

    def connect(rule: Rule) -> Rule:
        for primitive in primitives:
            RULES[primitive] = rule
            (CONSUMERS.add if consumes else CONSUMERS.discard)(primitive)
        return rule

    return connect


def may_consume(primitive: Any) -> bool:
    """Whether the primitive's rule can make use of owned operands."""
    return primitive in CONSUMERS or primitive.name in CONSUMERS


def rule_for(primitive: Any) -> Rule | None:
    """The rule of a primitive, by object first, then by name."""
    return RULES.get(primitive) or RULES.get(primitive.name)
