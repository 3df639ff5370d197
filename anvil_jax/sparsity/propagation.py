"""Walks a jaxpr and says, for each result, which entries of the seed it depends on, and how.

`Propagation.run` interprets one jaxpr with a fresh environment: a function that is called twice
with different constants is read twice. Nothing is evaluated by JAX (each primitive would cost a
compilation); constants are folded in NumPy by `folding`, and only on a fixed list of operations.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax.extend import core

from anvil_jax.sparsity import rules
from anvil_jax.sparsity.folding import fold
from anvil_jax.sparsity.rules.registry import MOVERS, RULES, WALKERS, Rule, out_shapes, united
from anvil_jax.sparsity.structure import Known, Tangent, Value
from anvil_jax.tracing import user_location

rules.load()


class ConservativeWarning(UserWarning):
    """A primitive has no sparsity rule; all its results were taken to depend on all operands."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One equation, prepared: it is executed once per trip of a loop.

    Attributes:
        eqn: the equation.
        atoms: its operands, literals replaced by their values.
        rule: the rule of its primitive, None if there is none.
        always: whether the rule is asked whatever the operands are.
        moves: whether the rule also handles operands that do not depend on the seed.
    """

    eqn: core.JaxprEqn
    atoms: tuple[core.Var | Known, ...]
    rule: Rule | None
    always: bool
    moves: bool


class Propagation:
    """One reading of a derivative program.

    Attributes:
        columns: size of the seed.
    """

    def __init__(self, columns: int, outer: "Propagation | None" = None) -> None:
        self.columns = columns
        self._warned: set[str] = outer._warned if outer else set()
        self._steps: dict[int, tuple[core.Jaxpr, list[_Step]]] = outer._steps if outer else {}

    def inner(self, columns: int) -> "Propagation":
        """A reading of a part of this program with a seed of its own."""
        return Propagation(columns, self)

    def run(self, jaxpr: core.Jaxpr, operands: Sequence[Value]) -> list[Value]:
        """Propagates through a jaxpr; returns what is known about its results."""
        env: dict[core.Var, Value] = dict(zip(jaxpr.invars, operands, strict=True))
        for var, const in zip(jaxpr.constvars, jaxpr.consts, strict=True):
            env[var] = constant(const)
        for step in self._prepared(jaxpr):
            values = [a if isinstance(a, Known) else env.get(a) for a in step.atoms]
            results = self._executed(step, values)
            env.update(zip(step.eqn.outvars, results, strict=True))
        return [env.get(a) if isinstance(a, core.Var) else _literal(a) for a in jaxpr.outvars]

    def _prepared(self, jaxpr: core.Jaxpr) -> list[_Step]:
        """Equations that the results depend on, without those that have no elements."""
        if id(jaxpr) not in self._steps:
            needed = {v for v in jaxpr.outvars if isinstance(v, core.Var)}
            steps: list[_Step] = []
            for eqn in reversed(jaxpr.eqns):
                if needed.isdisjoint(eqn.outvars):
                    continue
                needed.update(v for v in eqn.invars if isinstance(v, core.Var))
                if not all(0 in shape for shape in out_shapes(eqn)):
                    steps.append(_step(eqn))
            self._steps[id(jaxpr)] = jaxpr, steps[::-1]
        return self._steps[id(jaxpr)][1]

    def _executed(self, step: _Step, operands: list[Value]) -> Sequence[Value]:
        eqn, rule = step.eqn, step.rule
        if step.always and rule is not None:
            return [_nonempty(r) for r in rule(self, eqn, operands)]
        if operands and all(v is None for v in operands):
            return [None] * len(eqn.outvars)
        if not step.moves and not any(isinstance(v, Tangent) for v in operands):
            return fold(eqn, operands)
        results = self.conservative(eqn, operands) if rule is None else rule(self, eqn, operands)
        return [_nonempty(r) for r in results]

    def conservative(self, eqn: core.JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """Every result depends on everything that any operand depends on; warns once."""
        name = eqn.primitive.name
        if name not in self._warned:
            self._warned.add(name)
            where = user_location(eqn)
            warnings.warn(
                f"no sparsity rule for the primitive {name}{f' ({where})' if where else ''}: its "
                "results are taken to depend on all of its operands, which may make the derivative "
                "denser than it is",
                ConservativeWarning,
                stacklevel=2,
            )
        return united(eqn, operands)


def _step(eqn: core.JaxprEqn) -> _Step:
    name = eqn.primitive.name
    atoms = tuple(v if isinstance(v, core.Var) else _literal(v) for v in eqn.invars)
    return _Step(eqn, atoms, RULES.get(name), name in WALKERS, name in MOVERS)


def _literal(literal: core.Literal) -> Known:
    return Known(np.asarray(literal.val, dtype=getattr(literal.aval, "dtype", None)))


def _nonempty(value: Value) -> Value:
    """Values without elements depend on nothing."""
    return None if isinstance(value, Tangent) and not value.ids.size else value


def constant(value: object) -> Known | None:
    """What is known about a captured constant; None for random keys."""
    try:
        array = np.asarray(value)
    except TypeError:
        return None
    return None if array.dtype == object else Known(array)
