"""Functions whose derivatives are sparse, for the tests of the room.

Small versions of what users write (`models`, `programs`), and functions made to mislead a tracer
(`traps`). All take arrays of the given shapes; all can be evaluated at standard normal points.
"""

# ruff: noqa: E501 - a case is one line

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.sparsity import models, programs, traps

type Shape = tuple[int, ...]


@dataclass(frozen=True)
class Function:
    """One row of the table.

    Attributes:
        name: unique.
        fn: function of arrays of the given shapes.
        shapes: of the inputs; the derivative is with respect to all of them.
        kind: ``jac``, or ``hess`` for a scalar function.
        inexact: why the detected pattern is larger than the true one, if it is.
        reverse: only the reverse mode exists.
        dtype: of the inputs.
    """

    name: str
    fn: Callable[..., Any]
    shapes: tuple[Shape, ...]
    kind: Literal["jac", "hess"] = "jac"
    inexact: str | None = None
    reverse: bool = False
    dtype: str = "float64"


def _row(name: str, fn: Callable[..., Any], *shapes: int | Shape, **options: Any) -> Function:
    return Function(name, fn, tuple(s if isinstance(s, tuple) else (s,) for s in shapes), **options)


FUNCTIONS: tuple[Function, ...] = (
    _row("heat_1d", models.heat_1d, 12),
    _row("heat_2d", models.heat_2d, (5, 6)),
    _row("heat_3d", models.heat_3d, (3, 4, 5)),
    _row("brusselator", models.brusselator, (2, 4, 5)),
    _row("reaction_diffusion", models.reaction_diffusion, 12),
    _row("burgers_upwind", models.burgers_upwind, 10),
    _row("variable_coefficient", models.variable_coefficient, 9),
    _row("lotka_lattice", models.lotka_lattice, 12),
    _row("bratu", models.bratu, (4, 5)),
    _row("wave_symplectic", models.wave_symplectic, 16),
    _row("quadrotor_stage", models.quadrotor, 13, 4),
    _row("quadrotor_shooting", models.quadrotor_shooting, 47),
    _row("quadrotor_scan", models.quadrotor_scan, 47),
    _row("cart_pole_shooting", models.cart_pole_shooting, 44),
    _row("cart_pole_lagrangian", models.cart_pole_lagrangian, 44, kind="hess"),
    _row("hermite_simpson", models.hermite_simpson, 45),
    _row("single_shooting", models.single_shooting, 8),
    _row("soft_constraints", models.soft_constraints, 20),
    _row("rosenbrock", models.rosenbrock, 12, kind="hess"),
    _row("broyden_banded", models.broyden_banded, 14),
    _row("broyden_energy", lambda x: jnp.sum(models.broyden_banded(x) ** 2), 14, kind="hess"),
    _row("arrow_head", models.arrow_head, 12),
    _row("minimal_surface", models.minimal_surface, (4, 5), kind="hess"),
    _row("graph_energy", models.graph_energy, 30, kind="hess"),
    _row("springs", models.springs, 20),
    _row("gather_permutation", lambda x: x[programs.PERMUTATION] * x, 20),
    _row("gather_rows", lambda x: x[np.array([2, 0, 2])] ** 2, (4, 3)),
    _row("roll_2d", lambda x: jnp.roll(x, (1, 2), (0, 1)) * x, (3, 5)),
    _row("segment_sum", lambda x: jax.ops.segment_sum(jnp.sin(x), programs.SEGMENTS, 5), 10),
    _row("scatter_set", lambda x: jnp.zeros(6).at[np.array([4, 1])].set(x[:2] ** 2) + x, 6),
    _row("scatter_multiply", lambda x: x.at[np.array([0, 3])].multiply(x[1:3], unique_indices=True), 5),
    _row("scatter_duplicates", lambda x: jnp.zeros(4).at[np.array([1, 1, 2])].set(x), 3, inexact="which of two writers wins is unspecified"),
    _row("dynamic_slice_counter", programs.dynamic_slice_counter, 10),
    _row("table_lookup", programs.table_lookup, 2, (3, 4)),
    _row("argmax_row", programs.argmax_row, (4, 3)),
    _row("rows_by_data", programs.rows_by_data, (4, 3)),
    _row("unknown_scatter", programs.unknown_scatter, (2, 4)),
    _row("out_of_bounds", programs.out_of_bounds, 8),
    _row("take_along_axis", lambda x: jnp.take_along_axis(x, np.array([[0], [2], [1]]), 1), (3, 4)),
    _row("while_shift", programs.while_shift, 5),
    _row("while_known", programs.while_known, 7),
    _row("while_cond_constants", programs.while_cond_constants, 6),
    _row("fori_power", programs.fori_power, 4),
    _row("scan_iir", programs.scan_iir, 8),
    _row("scan_reverse", programs.scan_reverse, 6),
    _row("scan_nested", programs.scan_nested, (3, 4)),
    _row("scan_masks", programs.scan_masks, 6),
    _row("scan_delay_line", programs.scan_delay_line, 8),
    _row("scan_energy", traps.scan_energy, 8, kind="hess"),
    _row("cond_on_data", programs.cond_on_data, 5),
    _row("cond_known", programs.cond_known, 5),
    _row("switch_in_loop", programs.switch_in_loop, 5),
    _row("cond_gradient", programs.cond_gradient, 4, kind="hess"),
    _row("map_rows", programs.map_rows, (3, 4)),
    _row("solve", lambda x: jnp.linalg.solve(programs.MATRIX, x**2), 4),
    _row("solve_columns", lambda x: jnp.linalg.solve(programs.MATRIX, x), (4, 3)),
    _row("batched_solve", programs.batched_solve, (2, 3, 4)),
    _row("batched_cholesky", programs.batched_cholesky, (3, 2, 2)),
    _row("triangular", programs.triangular, (4, 2)),
    _row("bidiagonal_solve", programs.bidiagonal_solve, 6),
    _row("inverse", lambda x: jnp.linalg.inv(x + 4 * jnp.eye(3)), (3, 3)),
    _row("state_dependent_matrix", programs.state_dependent_matrix, 4),
    _row("constant_matrix", lambda x: programs.SPARSE @ x, 12),
    _row("batched_product", lambda x, y: x @ y, (2, 2, 3), (2, 3, 2)),
    _row("kronecker", lambda x: jnp.kron(x, jnp.eye(2)), (2, 3)),
    _row("mlp", programs.mlp, 5),
    _row("mlp_rows", jax.vmap(programs.mlp), (3, 5)),
    _row("convolution", programs.convolution, (5, 6)),
    _row("convolution_strided", programs.convolution_strided, (2, 9)),
    _row("convolution_channels", programs.convolution_channels, (1, 10)),
    _row("convolution_data_kernel", lambda x, w: jnp.convolve(x, w) * x[0], 6, 3),
    _row("convolution_kernel", programs.convolution_kernel, 3),
    _row("max_pool", programs.max_pool, (4, 6)),
    _row("average_pool", programs.average_pool, 9),
    _row("attention", programs.attention, (4, 3), inexact="the softmax of one element does not depend on it"),
    _row("layer_norm", programs.layer_norm, (3, 4)),
    _row("straight_through", lambda x: traps.straight_through(x) * x, 4),
    _row("longer_arm", lambda x: jnp.sin(traps.longer_arm(x)), 5),
    _row("straight_through_vjp", lambda x: traps.straight_through_vjp(x) * x, 4, reverse=True),
    _row("longer_arm_vjp", lambda x: jnp.sin(traps.longer_arm_vjp(x)), 5, reverse=True),
    _row("clipped_gradient", traps.clipped_gradient, 5, kind="hess"),
    _row("jit_reused", traps.jit_reused, 4),
    _row("stop_gradient", traps.stop_gradient_partly, 5),
    _row("zeroth_power", traps.zeroth_power, 5),
    _row("zeroth_float_power", traps.zeroth_float_power, 5),
    _row("masked", traps.masked, 6),
    _row("where_constant", traps.where_constant, 6),
    _row("integer_detour", traps.integer_detour, 4),
    _row("mixed_outputs", traps.mixed_outputs, 4),
    _row("product_of_columns", lambda x: jnp.prod(x, 1), (3, 4)),
    _row("sort_rows", traps.sort_rows, (3, 3)),
    _row("cumulative", lambda x: jnp.cumsum(x) * jnp.cumprod(x), 6),
    _row("running_maximum", lambda x: lax.cummax(x, reverse=True), 4),
    _row("cancelling", traps.cancelling, 3, inexact="whether rounded terms cancel depends on the compiler"),
    _row("mixed_shapes", traps.mixed_shapes, 3, 4, ()),
    _row("reused_row", traps.reused_row, 4),
    _row("constant_linear", traps.constant_linear, 10),
    _row("scalar", lambda x: jnp.sin(x) * 2, ()),
    _row("empty", lambda x: jnp.concatenate([x, x])[:0], 3),
    _row("empty_input", lambda x: jnp.sum(x)[None], 0),
    _row("no_dependence", lambda x: jnp.arange(3.0), 4),
    _row("float32", traps.float32_network, 6, dtype="float32"),
    _row("tanh_energy", traps.tanh_energy, 9, kind="hess"),
    _row("mlp_energy", traps.mlp_energy, 8, kind="hess"),
    _row("sum_of_sines", traps.sum_of_sines, 9, kind="hess"),
    _row("quadratic", traps.quadratic, 12, kind="hess"),
    _row("log_sum_exp_blocks", traps.log_sum_exp_blocks, 9, kind="hess"),
    _row("empty_hessian", lambda x: jnp.sum(3.0 * x), 4, kind="hess"),
)  # fmt: skip
