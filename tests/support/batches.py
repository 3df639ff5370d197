"""Cases of the table as batches, for kernels with one instance per thread."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from tests.cases.case import Case

COUNT = 5
"""Instances in a batch."""


def batched_cases(cases: Iterable[Case]) -> list[Case]:
    """Those that have arrays, each for equal instances and by the kernels that are chosen."""
    return [_batched(c) for c in cases if any(map(_is_array, jax.tree.leaves(c.inputs)))]


def _is_array(leaf: object) -> bool:
    return hasattr(leaf, "shape")


def _batched(case: Case) -> Case:
    leaves, tree = jax.tree.flatten(case.inputs)
    arrays = [k for k, leaf in enumerate(leaves) if _is_array(leaf)]

    def function(*args: Any) -> Any:
        given = jax.tree.leaves(args)

        def one(slices: list[jax.Array]) -> Any:
            filled = list(leaves)
            for k, piece in zip(arrays, slices, strict=True):
                filled[k] = piece
            return case.function(*jax.tree.unflatten(tree, filled))

        return jax.lax.map(one, [given[k] for k in arrays])

    stacked = [np.stack([x] * COUNT) if _is_array(x) else x for x in leaves]
    inputs = jax.tree.unflatten(tree, stacked)
    return replace(case, function=function, inputs=inputs, kernels=("auto",))
