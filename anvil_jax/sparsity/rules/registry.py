"""Rules by primitive name.

A rule receives the propagation in progress, the equation and what is known about its operands; it
returns what is known about its results. It is asked when an operand depends on the seed, and, if it
says so, also for operands that do not. Other operands without seed are left to `folding`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import everything
from anvil_jax.sparsity.structure import Shape, Value, tangents_of

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

type Rule = Callable[["Propagation", JaxprEqn, Sequence[Value]], Sequence[Value]]

RULES: dict[str, Rule] = {}
"""By name of the primitive."""

MOVERS: set[str] = set()
"""Primitives whose rule also handles operands that are partly known."""

WALKERS: set[str] = set()
"""Primitives with a jaxpr inside: their rule is always asked."""

VALUE_ONLY: set[str] = set()
"""Primitives whose results never depend on the seed: integers, booleans, random bits."""


def register(*names: str, moves: bool = False, walks: bool = False) -> Callable[[Rule], Rule]:
    """Decorator: propagates through the named primitives with the decorated rule.

    Args:
        *names: of the primitives.
        moves: the rule handles operands that are known, or partly, as well as tangents.
        walks: the rule is asked even if nothing is known about any operand.
    """

    def connect(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        if moves:
            MOVERS.update(names)
        if walks:
            WALKERS.update(names)
        return rule

    return connect


def value_only(*names: str) -> None:
    """Declares primitives through which no derivative flows."""
    VALUE_ONLY.update(names)


def out_shapes(eqn: JaxprEqn) -> list[Shape]:
    """Shapes of the results of an equation."""
    return [getattr(v.aval, "shape", ()) for v in eqn.outvars]


def in_shapes(eqn: JaxprEqn) -> list[Shape]:
    """Shapes of the operands of an equation."""
    return [getattr(v.aval, "shape", ()) for v in eqn.invars]


def united(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Every result depends on everything that any operand depends on."""
    live = tangents_of(operands)
    return [everything(live, shape) for shape in out_shapes(eqn)]
