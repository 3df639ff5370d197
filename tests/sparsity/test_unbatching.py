"""Every rule that removes a mapped axis: vmap a function, and find the function again."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from anvil_jax.sparsity.maps import unbatching
from anvil_jax.sparsity.maps.axes import Axes
from anvil_jax.sparsity.maps.program import evaluate, read
from anvil_jax.sparsity.maps.unbatching.custom import with_derivative_rules
from anvil_jax.sparsity.maps.unbatching.registry import drop_axis

unbatching.load()
N = 5
INDEX = np.array([2, 0], np.int32)


def linear_solver(a, b):
    return lax.custom_linear_solve(
        lambda x: x * a, b, lambda _, y: y / a, lambda _, y: y / a, symmetric=False
    )


def carried(x, y):
    def body(state, item):
        total, count = state
        return (total + item[0] * y, count + 1), jnp.sin(total) * count

    (total, _), path = lax.scan(body, (y, 0), x)
    return total, path


CASES: list[tuple[str, Callable[..., Any], Sequence[tuple[int, ...]]]] = [
    ("elementwise", lambda x, y: jnp.sin(x) * y[:, None] + 2.0, [(2, 3), (2,)]),
    ("compare", lambda x, y: jnp.where(x > y, x, jnp.clip(y, 0.0, 0.5)), [(3,), (3,)]),
    ("convert", lambda x: x.astype(jnp.float32), [(3,)]),
    ("reshape", lambda x: x.reshape(3, 2).ravel(), [(2, 3)]),
    ("squeeze", lambda x: jnp.squeeze(x[:1, None], (0, 1)), [(2, 3)]),
    ("broadcast", lambda x: jnp.broadcast_to(x[:, None], (2, 2, 4)), [(2,)]),
    ("transpose", lambda x: jnp.transpose(x, (2, 0, 1)), [(2, 3, 4)]),
    ("iota", lambda x: x * lax.iota(float, 3), [(3,)]),
    ("slice", lambda x: x[::2, 1:], [(4, 3)]),
    ("pad", lambda x: jnp.pad(x, ((1, 0), (0, 2))), [(2, 2)]),
    ("tile", lambda x: jnp.tile(x, (2, 1)), [(2, 3)]),
    ("stack", lambda x, y: jnp.stack([x, y], 1), [(2,), (2,)]),
    ("unstack", lambda x: [a * k for k, a in enumerate(x)], [(3, 2)]),
    ("concatenate", lambda x, y: jnp.concatenate([x, y], 1), [(2, 3), (2, 1)]),
    ("split", lambda x: jnp.split(x, [1], 0), [(3, 2)]),
    ("reverse", lambda x: x[::-1, ::-1], [(2, 3)]),
    ("reductions", lambda x: [x.sum(0), x.max(), x.min(1), x.prod((0, 1))], [(2, 3)]),
    ("logic", lambda x: [(x > 0.5).all(0), (x > 0.5).any()], [(2, 3)]),
    ("arguments", lambda x: [jnp.argmax(x, 1), jnp.argmin(x)], [(2, 3)]),
    ("cumulative", lambda x: [jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cummax(x, 1)], [(2, 3)]),
    ("sort", lambda x: [jnp.sort(x, 0), jnp.argsort(x, 1), *lax.top_k(x, 2)], [(2, 3)]),
    ("dot", lambda x, y: [x @ y, y.T @ y, x @ np.ones((3, 2))], [(2, 3), (3, 2)]),
    ("batched_dot", lambda x, y: jnp.einsum("kij,jk->ik", x, y), [(2, 3, 4), (4, 2)]),
    ("constant_dot", lambda x: np.ones((4, 3)) @ x, [(3,)]),
    ("gather", lambda x: x[INDEX], [(3, 2)]),
    ("gather_columns", lambda x: x[:, INDEX], [(3, 4)]),
    ("gather_data", lambda x, y: x[jnp.argmax(y)], [(3, 2), (3,)]),
    ("gather_table", lambda y: jnp.arange(12.0).reshape(3, 4)[jnp.argmax(y)], [(3,)]),
    ("scatter", lambda x: x.at[INDEX].set(1.0), [(3, 2)]),
    ("scatter_add", lambda x, y: x.at[:, INDEX].add(y), [(2, 3), (2, 2)]),
    ("scatter_data", lambda x, y: x.at[jnp.argmax(y)].multiply(y[0]), [(3,), (3,)]),
    ("dynamic_slice", lambda x: lax.dynamic_slice(x, (1, 0), (2, 2)), [(4, 2)]),
    ("dynamic_slice_data", lambda x, y: lax.dynamic_slice(x, (jnp.argmax(y),), (2,)), [(4,), (3,)]),
    ("dynamic_update", lambda x, y: lax.dynamic_update_slice(x, y, (1,)), [(4,), (2,)]),
    ("interpolation", lambda x: jnp.interp(x, jnp.arange(5.0), jnp.arange(5.0) ** 2), [(3,)]),
    ("cholesky", lambda x: jnp.linalg.cholesky(x @ x.T + np.eye(2)), [(2, 3)]),
    ("solve", lambda x, y: jnp.linalg.solve(x + 3 * np.eye(3), y), [(3, 3), (3,)]),
    ("triangular", lambda x, y: lax.linalg.triangular_solve(x, y, left_side=True),
     [(3, 3), (3, 2)]),
    ("own_solver", linear_solver, [(3,), (3,)]),
    ("inverse", lambda x: jnp.linalg.inv(x + 3 * np.eye(3)), [(3, 3)]),
    ("eigen", lambda x: jnp.linalg.eigh(x + x.T)[0], [(3, 3)]),
    ("scan", carried, [(4, 2), (2,)]),
    ("loop", lambda x: lax.fori_loop(0, 3, lambda k, y: y * x + k, x), [(2,)]),
    ("branch", lambda x: lax.cond(np.ones(()) > 0, jnp.sin, lambda y: y[::-1], x), [(2,)]),
    ("relu", lambda x: jax.nn.relu(x - 0.5), [(3,)]),
    ("softplus", lambda x, y: jnp.logaddexp(x, y), [(3,), (3,)]),
    ("stop_gradient", lambda x: lax.stop_gradient(x) * x, [(3,)]),
]  # fmt: skip


def points(shapes):
    rng = np.random.default_rng(0)
    return [rng.uniform(0.1, 1.0, (N, *s)) for s in shapes]


def freed(fn, arrays, in_axes):
    """The program of ``vmap(fn)`` without the mapped axis."""
    program = read(jax.make_jaxpr(fn)(*arrays))
    program = with_derivative_rules(program, range(len(program.ops)))
    axes = Axes()
    axes.add(0, program, range(len(program.ops)))
    wanted = dict(zip(program.inputs, in_axes, strict=True))
    group = next(g for g in axes.groups() if wanted.items() <= g.of(0).items())
    assert group.extent == N
    return drop_axis(program, group.of(0))


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("name", "fn", "shapes"), CASES, ids=[c[0] for c in CASES])
def test_vmap_is_undone(name, fn, shapes, last) -> None:
    in_axes = tuple(len(s) if last else 0 for s in shapes)
    with jax.enable_x64(True):
        arrays = points(shapes)
        mapped = jax.vmap(lambda *x: jax.tree.leaves(fn(*x)), in_axes, -1 if last else 0)
        turned = [np.moveaxis(x, 0, axis) for x, axis in zip(arrays, in_axes, strict=True)]
        program = freed(mapped, turned, in_axes)
        for k in range(N):
            slices = [jnp.asarray(x[k]) for x in arrays]
            results = evaluate(program, slices)
            expected = jax.tree.leaves(fn(*slices))
            for a, b in zip(results, expected, strict=True):
                assert np.shape(a) == np.shape(b)
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x[1:],
        lambda x: x.sum(0),
        lambda x: jnp.concatenate([x, x]),
        lambda x: jnp.cumsum(x, 0),
        lambda x: jnp.sort(x, 0),
        lambda x: x[::-1],
        lambda x: x.reshape(-1),
        lambda x: x @ x.T,
        lambda x: x[np.arange(N)],
        lambda x: lax.scan(lambda c, y: (c + y, c), x[0], x)[1],
        lambda x: jnp.fft.fft(x).real,
    ],
)
def test_mixed_slices_are_seen(fn) -> None:
    program = read(jax.make_jaxpr(fn)(np.ones((N, 3))))
    axes = Axes()
    axes.add(0, program, range(len(program.ops)))
    (given,) = program.inputs
    assert all(g.of(0).get(given) != 0 for g in axes.groups())
