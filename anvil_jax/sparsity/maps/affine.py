"""How values depend on the differentiated inputs: not at all, affinely, or otherwise."""

from collections.abc import Collection, Sequence
from enum import IntEnum

from jax import numpy as jnp
from jax.extend.core import Jaxpr

from anvil_jax.sparsity.maps.program import Op, Operand, Program, read, scan_arity


class Degree(IntEnum):
    """Dependence on the differentiated inputs."""

    INDEPENDENT = 0
    AFFINE = 1
    NONLINEAR = 2


_LINEAR = {
    "add", "add_any", "broadcast_in_dim", "concatenate", "copy", "copy_p", "cumsum", "expand_dims",
    "name", "neg", "optimization_barrier", "pad", "reduce_sum", "reduce_window_sum", "reshape",
    "rev", "slice", "split", "squeeze", "stack", "sub", "tile", "transpose", "unstack",
}  # fmt: skip
"""Linear in all operands together."""

_BILINEAR = {"mul", "dot_general", "conv_general_dilated"}
"""Linear in each operand."""

_LINEAR_IN_FIRST = {
    "cond": False, "div": True, "dynamic_slice": True, "gather": True, "scatter-mul": True,
    "select_n": False, "triangular_solve": False,
}  # fmt: skip
"""Linear in the first operand (True), or in all others (False), while the rest is fixed."""

_LINEAR_BUT_INDICES = {
    "dynamic_update_slice": (0, 1), "scatter": (0, 2), "scatter-add": (0, 2), "scatter-sub": (0, 2),
}  # fmt: skip
"""Operands in which the operation is linear while the others are fixed."""


def degrees(program: Program, inputs: Sequence[Degree]) -> tuple[dict[int, Degree], set[int]]:
    """The degree of every value, and the positions of the operations that are not affine.

    Operands that are nonlinear already count as variables: an operation is affine if it is so in
    all its operands that depend on the inputs.

    Args:
        program: any program.
        inputs: degree of each input.
    """
    found: dict[int, Degree] = dict.fromkeys(program.constants, Degree.INDEPENDENT)
    found.update(zip(program.inputs, inputs, strict=True))
    nonlinear: set[int] = set()
    for position, op in enumerate(program.ops):
        ins = [_degree(v, found) for v in op.ins]
        if not any(ins):
            found.update(dict.fromkeys(op.outs, Degree.INDEPENDENT))
            continue
        outs, affine = _outcome(program, op, ins)
        found.update(zip(op.outs, outs, strict=True))
        if not affine:
            nonlinear.add(position)
    return found, nonlinear


def _degree(operand: Operand, found: dict[int, Degree]) -> Degree:
    return found[operand] if isinstance(operand, int) else Degree.INDEPENDENT


def _outcome(program: Program, op: Op, ins: list[Degree]) -> tuple[list[Degree], bool]:
    """Degrees of the results, and whether the operation is affine."""
    if op.name == "scan":
        return _scan(op, ins)
    if op.name in ("map", "inline"):
        found, nonlinear = degrees(op.bodies[0], ins)
        return [_degree(v, found) for v in op.bodies[0].outs], not nonlinear
    if op.name == "cond" and not ins[0]:
        return _branches(op, ins[1:])
    affine = all(_is_real(program, v) for v in op.outs) and is_affine(op, [bool(d) for d in ins])
    degree = max(ins) if affine else Degree.NONLINEAR
    return [degree] * len(op.outs), affine


def _is_real(program: Program, value: int) -> bool:
    return jnp.issubdtype(program.avals[value].dtype, jnp.floating)


def is_affine(op: Op, depends: Sequence[bool]) -> bool:
    """Whether an operation is affine in those operands that depend on the inputs."""
    name, p = op.name, op.params
    if name in _LINEAR:
        return True
    if name == "convert_element_type":  # from a floating-point type, as integers do not depend
        return jnp.issubdtype(p["new_dtype"], jnp.floating)
    if name in _BILINEAR:
        return sum(depends) == 1
    if name in _LINEAR_IN_FIRST:
        first = _LINEAR_IN_FIRST[name]
        return not any(depends[1:]) if first else name != "cond" and not depends[0]
    if name in _LINEAR_BUT_INDICES:
        return not any(d for k, d in enumerate(depends) if k not in _LINEAR_BUT_INDICES[name])
    if name == "integer_pow":
        return p["y"] == 1
    if name == "custom_linear_solve":
        sides = len(depends) - sum(p["const_lengths"])
        return not any(depends[: len(depends) - sides])
    return False


def _branches(op: Op, ins: Sequence[Degree]) -> tuple[list[Degree], bool]:
    worst = [Degree.INDEPENDENT] * len(op.outs)
    affine = True
    for body in op.bodies:
        found, nonlinear = degrees(body, ins)
        worst = [max(a, _degree(v, found)) for a, v in zip(worst, body.outs, strict=True)]
        affine = affine and not nonlinear
    return worst, affine


def _scan(op: Op, ins: list[Degree]) -> tuple[list[Degree], bool]:
    """A loop: the degrees of what is carried grow until they no longer change."""
    (body,) = op.bodies
    constants, carried = scan_arity(op.params)
    state = list(ins)
    while True:
        found, nonlinear = degrees(body, state)
        outs = [_degree(v, found) for v in body.outs]
        grown = [max(a, b) for a, b in zip(state[constants:], outs[:carried], strict=False)]
        if grown == state[constants : constants + carried]:
            return outs, not nonlinear
        state[constants : constants + carried] = grown


def all_affine(jaxpr: Jaxpr, moving: Collection[int]) -> bool:
    """Whether all results of a closed jaxpr are affine in some of its inputs."""
    program = read(jaxpr)
    inputs = [
        Degree.AFFINE if k in moving else Degree.INDEPENDENT for k in range(len(program.inputs))
    ]
    found, _ = degrees(program.pruned(), inputs)
    return all(_degree(v, found) < Degree.NONLINEAR for v in program.outs)
