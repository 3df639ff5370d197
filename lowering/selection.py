"""Which kind of kernel a region of the jaxpr becomes: one table, one function per question.

A *scalar* region keeps every array element as an expression of its own: structure is free, common
subexpressions disappear, code grows with the number of elements. A *tensor* region
keeps arrays as loops over buffers: code size is independent of the extents, and contractions run
in blocked kernels. Thresholds come from the measurements in docs/explanation/kernels.md.
"""

import math
from dataclasses import dataclass
from typing import Literal

from jax.extend import core

from anvil_jax.errors import ArgumentError

type KernelChoice = Literal["auto", "scalar", "tensor"]


@dataclass(frozen=True, slots=True)
class CostModel:
    """Thresholds between scalar and tensor kernels.

    Attributes:
        elements: arrays up to this size that come from memory are taken apart into scalars.
        joined_elements: the same for arrays whose elements already are scalars.
        contraction: multiply-adds up to which a contraction is written out.
        unrolled: scalar operations up to which a loop is unrolled.
        carried_elements: loop carries up to this size live in scalars.
        branch: operations up to which all branches are computed and one is selected.
    """

    elements: int = 32
    joined_elements: int = 256
    contraction: int = 600
    unrolled: int = 400
    carried_elements: int = 64
    branch: int = 24


COST_MODELS: dict[str, CostModel] = {
    "auto": CostModel(),
    "scalar": CostModel(
        elements=100_000, joined_elements=100_000, contraction=1_000_000, carried_elements=4096
    ),
    "elimination": CostModel(
        elements=100_000,
        joined_elements=100_000,
        contraction=1_000_000,
        unrolled=2_000,
        carried_elements=4096,
        branch=400,
    ),
    "tensor": CostModel(
        elements=1, joined_elements=1, contraction=0, unrolled=0, carried_elements=1
    ),
}


def cost_model(kernel: KernelChoice) -> CostModel:
    """The table's row for an override.

    Raises:
        ArgumentError: `kernel` is not one of auto, scalar, tensor.
    """
    if kernel not in ("auto", "scalar", "tensor"):
        raise ArgumentError(f"kernel must be one of auto, scalar, tensor, got {kernel!r}")
    return COST_MODELS[kernel]


def contraction_size(batch: int, m: int, n: int, k: int) -> int:
    """Multiply-adds of a batched matrix product."""
    return math.prod((batch, m, n, k))


_FREE = frozenset(
    {
        "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "slice", "rev",
        "concatenate", "stack", "unstack", "split", "iota", "pad", "copy", "stop_gradient",
        "convert_element_type",
    }
)  # fmt: skip
_NATIVE = frozenset(
    {
        "while", "sort", "top_k", "lu", "cholesky", "triangular_solve", "qr", "geqrf",
        "householder_product", "tridiagonal_solve",
    }
)  # fmt: skip
_BOUNDLESS = 10**9


def _shape(eqn: core.JaxprEqn) -> tuple[int, ...]:
    """Shape of the first operand."""
    return getattr(eqn.invars[0].aval, "shape", ())


def scalar_operations(jaxpr: core.Jaxpr) -> int:
    """Rough number of scalar operations if `jaxpr` were written out element by element.

    Loops without a known number of trips and native calls count as boundless: they are never a
    reason to unroll or to compute both branches.
    """
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        size = max((math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars), default=0)
        inner = list(core.jaxprs_in_params(eqn.params))
        if name in _FREE:
            continue
        if name == "scan":
            total += eqn.params["length"] * sum(map(scalar_operations, inner))
        elif name in _NATIVE:
            return _BOUNDLESS
        elif inner and not name.startswith(("scatter", "reduce")):
            total += sum(map(scalar_operations, inner))
        elif name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = _shape(eqn)
            total += size * math.prod(shape[k] for k in contracted)
        elif name.startswith(("reduce_", "cum", "arg")):
            total += math.prod(_shape(eqn))
        else:
            total += size
    return min(total, _BOUNDLESS)


def primitive_names(jaxpr: core.Jaxpr) -> set[str]:
    """The primitives of a jaxpr and of those inside it."""
    names = {eqn.primitive.name for eqn in jaxpr.eqns}
    inner = (j for eqn in jaxpr.eqns for j in core.jaxprs_in_params(eqn.params))
    return names.union(*map(primitive_names, inner))
