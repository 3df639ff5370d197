"""Values of scalar expressions, computed with NumPy."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.special

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name

_UNARY: dict[str, Callable[..., Any]] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "exp": np.exp, "log": np.log,
    "log1p": np.log1p, "expm1": np.expm1, "abs": np.abs, "sign": np.sign, "cbrt": np.cbrt,
    "floor": np.floor, "erf": scipy.special.erf, "logistic": scipy.special.expit,
    "not": np.logical_not, "nan": lambda: np.nan,
    "atan2": np.arctan2, "pow": np.power, "maximum": np.maximum, "minimum": np.minimum,
    "le": np.less_equal,
}  # fmt: skip

_OPERATIONS: dict[Ops, Callable[..., Any]] = {
    Ops.ADD: np.add, Ops.SUB: np.subtract, Ops.MUL: np.multiply, Ops.FDIV: np.divide,
    Ops.NEG: np.negative, Ops.SQRT: np.sqrt, Ops.CMPLT: np.less, Ops.CMPEQ: np.equal,
    Ops.CMPNE: np.not_equal, Ops.AND: np.logical_and, Ops.OR: np.logical_or,
    Ops.WHERE: lambda c, a, b: a if c else b,
}  # fmt: skip


def evaluate(nodes: Iterable[UOp], known: dict[UOp, Any]) -> dict[UOp, Any]:
    """Values of expressions, operation by operation in their own precision."""
    values = dict(known)
    pending = list(nodes)
    with np.errstate(all="ignore"):
        while pending:
            node = pending[-1]
            missing = [s for s in node.src if s not in values and node not in values]
            if missing:
                pending.extend(missing)
                continue
            pending.pop()
            if node not in values:
                values[node] = _value(node, [values[s] for s in node.src])
    return values


def _value(node: UOp, operands: list[Any]) -> Any:
    dtype = np.dtype("int64" if dtype_name(node) == "index" else dtype_name(node)).type
    if node.op is Ops.CONST:
        return dtype(-0.0 if node.tag == "-0" else node.arg)
    if node.op is Ops.CAST:
        return dtype(operands[0])
    if node.op is Ops.CUSTOM:
        return dtype(_UNARY[node.arg](*operands))
    return dtype(_OPERATIONS[node.op](*operands))
