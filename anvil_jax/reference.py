"""Reference results: what JAX computes for fixed inputs, with a tolerance for each output.

The self-test of an exported module compares with these. They are the only generated text that may
differ between machines, in the last digits, as XLA's results do.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core as jex_core

from anvil_jax.emit.literals import literal, table
from anvil_jax.emit.views import SampleView
from anvil_jax.tracing import Port, Traced, walk_equations

_SEED = 20240229
_SAMPLES = 3
_LARGE = 20_000  # input elements above which one sample must do

# Differences of a few units in the last place per operation add up over long sums; the tolerance
# is a fraction of the largest element, since cancellation can make others arbitrarily small.
_ULPS = 256.0
_PERTURBATION_ULPS = 4.0


def reference_samples(traced: Traced) -> tuple[SampleView, ...]:
    """Inputs from a fixed sequence of random numbers with JAX's outputs.

    The absolute tolerance of an output is 256 units in the last place of its largest element, plus
    4 times its change when all inputs change by 4 units: a function that amplifies rounding errors
    is allowed to do so.
    """
    evaluate = jax.jit(jex_core.jaxpr_as_fun(traced.jaxpr))
    epsilon = _epsilon(traced)
    large = sum(int(np.prod(port.shape)) for port in traced.inputs) > _LARGE
    samples = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for inputs in _inputs(traced.inputs, 1 if large else _SAMPLES):
            outputs = [np.asarray(value) for value in evaluate(*inputs)]
            moved = [_moved(value, _PERTURBATION_ULPS * epsilon) for value in inputs]
            changed = [np.asarray(value) for value in evaluate(*moved)]
            samples.append(
                SampleView(
                    inputs=tuple(table(value) for value in inputs),
                    outputs=tuple(table(value) for value in outputs),
                    tolerances=tuple(
                        _tolerance(value, other, epsilon)
                        for value, other in zip(outputs, changed, strict=True)
                    ),
                )
            )
    return tuple(samples)


def _inputs(ports: Sequence[Port], count: int) -> Iterator[list[np.ndarray]]:
    # RandomState's sequence is frozen by NumPy: the same on every version and machine.
    random = np.random.RandomState(_SEED)
    for kind in range(count):
        values = []
        for port in ports:
            dtype = np.dtype(port.dtype)
            if dtype.kind == "f":
                low, high = ((0.1, 1.0), (-1.0, 1.0), (-3.0, 3.0))[kind]
                value = random.uniform(low, high, port.shape)
            else:
                value = random.randint(0, 2 if dtype.kind == "b" else 4, port.shape)
            values.append(np.asarray(value).astype(dtype))
        yield values


def _moved(value: np.ndarray, relative: float) -> np.ndarray:
    if value.dtype.kind != "f":
        return value
    return np.asarray(value * (1.0 + relative), dtype=value.dtype)


def _tolerance(value: np.ndarray, changed: np.ndarray, epsilon: float) -> str:
    if value.dtype.kind != "f":
        return "0.0"
    with np.errstate(all="ignore"):
        size = np.abs(value.astype(np.float64))
        change = np.abs(changed.astype(np.float64) - value)
    largest = np.max(size, initial=0.0, where=np.isfinite(size))
    moved = np.max(change, initial=0.0, where=np.isfinite(change))
    smallest = float(np.finfo(value.dtype).tiny)
    return literal(_ULPS * epsilon * max(largest, smallest) + 4.0 * moved, "float64")


def _epsilon(traced: Traced) -> float:
    """Relative precision of the least precise floating-point number that appears."""
    avals: list[Any] = [*traced.jaxpr.in_avals, *traced.jaxpr.out_avals, *traced.jaxpr.consts]
    avals.extend(v.aval for eqn, _ in walk_equations(traced.jaxpr) for v in eqn.outvars)
    names = {str(aval.dtype) for aval in avals if hasattr(aval, "dtype")}
    return float(np.finfo(np.float32 if "float32" in names else np.float64).eps)
