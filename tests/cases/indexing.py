"""Reading and writing at computed positions, in every mode."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import INTEGERS, Data, case

_data = Data(6)

_X, _BIG, _CUBE = _data.normal(6, 4), _data.normal(40, 30), _data.normal(5, 7, 3)
_I = np.array([3, 0, 2], dtype="int32")
_OUT = np.array([7, -2, -9, 3, 5, 6, -7, -6])
_MANY = _data.integers(-50, 60, 25)
_MODES = ("clip", "fill", "promise_in_bounds")
_PERMUTATION = _data.shuffled(40)
_KEYS = _data.integers(0, 6, 9)


def _gather(x, i, dims, sizes, **options):
    return lax.gather(x, i, lax.GatherDimensionNumbers(**dims), sizes, **options)


def _scatter(f, x, i, u, dims, **options):
    return f(x, i, u, lax.ScatterDimensionNumbers(**dims), **options)


_WINDOW = {"offset_dims": (1, 2), "collapsed_slice_dims": (), "start_index_map": (0, 1)}
_OFFSET_FIRST = {"offset_dims": (0,), "collapsed_slice_dims": (1,), "start_index_map": (1,)}
_SWAPPED = {"offset_dims": (2,), "collapsed_slice_dims": (0,), "start_index_map": (1, 0)}
_BATCHED = {
    "offset_dims": (2,), "collapsed_slice_dims": (1,), "start_index_map": (1,),
    "operand_batching_dims": (0,), "start_indices_batching_dims": (0,),
}  # fmt: skip
_UPDATE = {
    "update_window_dims": (1, 2), "inserted_window_dims": (), "scatter_dims_to_operand_dims": (0, 1),
}  # fmt: skip
_STARTS = np.array([[1, 0], [4, 3], [-1, 1], [5, 2], [99, -99]])
_SCATTERS = {
    "set": lax.scatter, "add": lax.scatter_add, "sub": lax.scatter_sub, "mul": lax.scatter_mul,
    "min": lax.scatter_min, "max": lax.scatter_max,
}  # fmt: skip
_UPDATES = _data.normal(5, 2, 2)

CASES = (
    case("static_rows", lambda x: (x[np.array([3, 0, 2])], x[np.array([1, 1, -1])], x[:, np.array([0, 3, 0])]), _X),
    case("static_pairs", lambda x: (x[np.array([3, 0]), np.array([1, 2])], x[np.ix_([0, 5], [1, 3])]), _X),
    case("static_elements", lambda x: (x[2, 3], x[-1], x[..., 0], x[4:1:-1, ::2]), _X),
    case("static_regular", lambda x: (x[np.arange(0, 40, 7)], x[:, np.arange(29, 0, -3)], x[np.arange(3)[:, None], np.arange(4)]), _BIG),
    case("static_permutation", lambda x: x[_PERMUTATION] * 2 + x.at[_PERMUTATION].get(), _BIG),
    case("static_large", lambda x: x[np.arange(0, 600, 7) % 40][:, ::3] * 2, _data.normal(40, 230)),
    case("static_out_of_range", lambda x: (x.at[np.array([7, -9, 2])].get(mode="fill", fill_value=1.5), x.at[np.array([7, -9, 2])].get(mode="clip")), _X),
    case("static_out_of_range_large", lambda x: x.at[np.array([7, -99, 2, 40])].get(mode="fill"), _BIG),
    case("static_of_constant", lambda x: x + jnp.asarray(_BIG)[np.array([3, 0, 2]), :4].sum(0), _data.normal(4)),
    case("boolean_static", lambda x: x[np.array([True, False, True, True, False, False])], _X),
    case("constant_at_dynamic", lambda i: jnp.asarray(_X)[i] * 2, _I),
    case("dynamic_rows", lambda x, i: (x[i], x[:, i], x[i, i], x[i][:, i]), _X, _I),
    case("dynamic_rows_large", lambda x, i: (x[i], x[:, i], x[i, i], jnp.sin(x)[i]), _BIG, _I),
    case("dynamic_scalar", lambda x, i: (x[i], x[:, i], x[i, i], x[i, 1:3]), _X, np.array(2)),
    case("dynamic_matrix_index", lambda x, i: x[i], _BIG, _data.integers(0, 40, 3, 5)),
    case("dynamic_computed", lambda x, i: jnp.sin(x * 2)[i + 1] + x[i * 2], _BIG, _I),
    case("dynamic_many", lambda x, i: (jnp.take(x, i, axis=0), x[i]), _BIG, _MANY),
    case("dynamic_after_structure", lambda x, i: (x.T[i], x[::-1][i], x[::2, 1:][:, i]), _BIG, _I),
    *(case(f"out_of_range_{m}", lambda x, i, m=m: x.at[i].get(mode=m), _data.normal(6), np.arange(6)[::-1].copy() if m == "promise_in_bounds" else _OUT) for m in _MODES),
    *(case(f"out_of_range_rows_{m}", lambda x, i, m=m: x.at[i].get(mode=m), _BIG, _data.integers(0, 40, 9) if m == "promise_in_bounds" else _MANY) for m in _MODES),
    case("fill_value", lambda x, i: (x.at[i].get(mode="fill", fill_value=-3.0), x.astype("int8").at[i].get(mode="fill"), x.astype("uint16").at[i].get(mode="fill")), np.arange(6.0), _OUT),
    case("fill_value_bool", lambda x, i: x.at[i].get(mode="fill"), np.zeros(6, bool), _OUT),
    *(case(f"index_{d}", lambda x, i: (x.at[i].get(mode="clip"), x.at[i].get(mode="fill", fill_value=9.0), x[i]), _data.normal(100), _data.whole_range(d, 12)) for d in INTEGERS),
    case("take_along_axis", lambda x, i: (jnp.take_along_axis(x, i, 1), jnp.take_along_axis(x.T, i[:4, :6] % 4, 0)), _X, _data.integers(0, 4, 6, 6)),
    case("gather_window", lambda x, i: _gather(x, i, _WINDOW, (2, 3), mode="clip"), _X, _STARTS),
    case("gather_window_fill", lambda x, i: _gather(x, i, _WINDOW, (2, 2), mode="fill", fill_value=7.0), _X, _STARTS),
    case("gather_window_large", lambda x, i: _gather(x, i * 5, _WINDOW, (7, 9), mode="fill", fill_value=7.0), _BIG, _STARTS),
    case("gather_window_static", lambda x: _gather(x, jnp.asarray(_STARTS), _WINDOW, (2, 2), mode="fill", fill_value=7.0), _X),
    case("gather_offset_first", lambda x, i: _gather(x, i, _OFFSET_FIRST, (6, 1), mode="clip"), _X, _STARTS[:, :1]),
    case("gather_swapped", lambda x, i: _gather(x, i, _SWAPPED, (1, 2), mode="clip"), _X, _STARTS.reshape(1, 5, 2)),
    case("gather_batched", lambda x, i: _gather(x, i, _BATCHED, (1, 1, 3), mode="clip"), _CUBE, _data.integers(-2, 9, 5, 4, 1)),
    case("gather_vmapped", jax.vmap(lambda x, i: x[i]), _CUBE, _data.integers(0, 7, 5)),
    case("gather_vmapped_rows", jax.vmap(lambda x, i: (x[i], x[:, i % 3])), _CUBE, _data.integers(-7, 7, 5, 2)),
    case("gather_empty", lambda x, i: (x[i], x[i].sum()), _X, np.zeros(0, "int32")),
    case("gather_size_one", lambda x, i: (x[i], x[i[0]]), _data.normal(1, 3), np.zeros(1, "int32")),
    case("gather_bool_dtype", lambda x, i: x[i], _data.booleans(6, 4), _I),
    *(case(f"scatter_{n}", lambda x, i, u, f=f: tuple(_scatter(f, x, i, u, _UPDATE, mode=m) for m in ("clip", "fill")), _X, _STARTS[[0, 2, 4]] if n == "set" else _STARTS, _UPDATES[:3] if n == "set" else _UPDATES) for n, f in _SCATTERS.items()),
    *(case(f"scatter_static_{n}", lambda x, u, f=f: tuple(_scatter(f, x, jnp.asarray(_STARTS), u, _UPDATE, mode=m) for m in ("clip", "fill")), _X, _UPDATES) for n, f in _SCATTERS.items()),
    *(case(f"scatter_rows_{n}", lambda x, i, u, n=n: getattr(x.at[i], n)(u), _BIG, _data.shuffled(40)[:9] if n == "set" else _data.integers(-45, 45, 60), _data.normal(9, 30) if n == "set" else _data.normal(60, 30)) for n in ("set", "add", "subtract", "multiply", "min", "max")),
    case("scatter_promise", lambda x, i: x.at[i].set(3.0, mode="promise_in_bounds"), _X, _I),
    case("scatter_scalar", lambda x, i: (x.at[i].set(5.0), x.at[i, 2].add(1.5), x.at[:, i].multiply(2.0)), _X, np.array(-2)),
    case("scatter_out_of_range", lambda x, i: (x.at[i].add(2.0, mode="drop"), x.at[i].add(2.0, mode="clip")), _data.normal(6), _OUT),
    case("scatter_duplicates", lambda x, i: (x.at[i].add(1.0), x.at[i].multiply(1.5), x.at[i].max(0.3)), _data.normal(6), _KEYS),
    case("scatter_static", lambda x: (x.at[2].set(5.0), x.at[1:3, ::2].add(1.0), x.at[np.array([0, 0, 2])].add(2.0), x.at[-1].multiply(3.0)), _X),
    case("scatter_static_large", lambda x: (x.at[2].set(5.0), x.at[1:30, ::2].add(1.0), x.at[np.array([0, 0, 2])].add(2.0)), _BIG),
    case("scatter_swapped", lambda x, i, u: _scatter(lax.scatter_add, x, i, u, {"update_window_dims": (0,), "inserted_window_dims": (1,), "scatter_dims_to_operand_dims": (1,)}, mode="clip"), _X, np.array([[1], [3], [9]]), _data.normal(6, 3)),
    case("scatter_batched", jax.vmap(lambda x, i, u: x.at[i].add(u)), _CUBE, _data.integers(0, 7, 5, 4), _data.normal(5, 4, 3)),
    case("scatter_vmapped_scalar", jax.vmap(lambda x, i: x.at[i].set(9.0)), _data.normal(5, 7), _data.integers(-7, 7, 5)),
    case("scatter_integers", lambda x, i: (x.at[i].add(jnp.int8(100)), x.at[i].max(jnp.int8(3)), x.at[i].multiply(jnp.int8(7))), _data.whole_range("int8", 6), _KEYS),
    case("scatter_bool", lambda x, i: x.at[i].set(True), np.zeros(6, bool), _I),
    case("scatter_empty", lambda x, i: (x.at[i].add(1.0), x.at[i].set(2.0)), _X, np.zeros(0, "int32")),
    case("scatter_stencil", lambda x: (x.at[1:-1].add(x[2:] - x[:-2]), x.at[3:].multiply(2.0), x.at[:, 1:5].min(0.0), x.at[::2, 1::3].set(x[::2, 1::3] ** 2)), _data.normal(60, 40)),
    case("scatter_columns", lambda x, i, u: (x.at[:, i].add(u), x.at[:, np.array([1, 1, 3, 29])].add(u[:, :4])), _BIG, _data.integers(-30, 30, 50), _data.normal(40, 50)),
    case("scatter_overlapping", lambda x, i, u: tuple(_scatter(lax.scatter_add, x, i, u, {"update_window_dims": (w,), "inserted_window_dims": (), "scatter_dims_to_operand_dims": (0,)}) for w, u in ((1, u), (0, u.T))), _data.normal(90), _data.integers(0, 60, 20, 1), _data.normal(20, 30)),
    case("scatter_unique", lambda x, i: (x.at[i].add(x[:30] ** 2, unique_indices=True), x.at[np.arange(0, 40, 3)].multiply(x[:14]), x.at[_PERMUTATION].set(x * 2)), _BIG, _data.shuffled(40)[:30]),
    case("scatter_nan", lambda x, i: (x.at[i].max(1.0), x.at[i].min(1.0), x.at[i].add(1.0)), np.array([np.nan, 2.0, -1.0, np.inf]), np.array([0, 1, 3])),
    case("scatter_of_computed", lambda x, i: jnp.sin(x).at[i].add(jnp.cos(x)[i]) * 2, _BIG, _I),
    case("scatter_twice", lambda x, i: x.at[i].add(1.0).at[i + 1].multiply(2.0) + x, _BIG, _I),
    case("scatter_apply", lambda x, i: x.at[i].apply(jnp.sin), _X, _I),
    case("dynamic_slice", lambda x, s: (lax.dynamic_slice(x, (s, s * 0), (2, 3)), lax.dynamic_slice(x, (s + 99, s - 99), (3, 2))), _X, np.array(3)),
    case("dynamic_slice_large", lambda x, s: (lax.dynamic_slice(x, (s, s * 0), (20, 25)) * 2, lax.dynamic_slice(jnp.sin(x), (s + 99, s - 99), (30, 12))), _BIG, np.array(3, dtype="int8")),
    case("dynamic_slice_static", lambda x: (lax.dynamic_slice(x, (2, -3), (2, 3)), lax.dynamic_slice(x, (9, 0), (2, 3))), _X),
    case("dynamic_slice_empty", lambda x, s: lax.dynamic_slice(x, (s, s), (0, 3)), _X, np.array(3)),
    *(case(f"dynamic_slice_{d}", lambda x, s: (lax.dynamic_slice(x, (s[0],), (3,)), lax.dynamic_slice(x, (s[1],), (70,)), lax.dynamic_update_slice(x, x[:5] * 2, (s[2],))), _data.normal(120), _data.whole_range(d, 3)) for d in INTEGERS),
    case("dynamic_update_slice", lambda x, u, s: (lax.dynamic_update_slice(x, u, (s, s - 3)), lax.dynamic_update_slice(x, u, (s + 99, s - 99))), _X, _data.normal(2, 3), np.array(3)),
    case("dynamic_update_slice_large", lambda x, u, s: lax.dynamic_update_slice(x * 2, jnp.sin(u), (s, s - 3)) + x, _BIG, _data.normal(12, 13), np.array(30)),
    case("dynamic_update_slice_static", lambda x, u: lax.dynamic_update_slice(x, u, (4, -3)), _X, _data.normal(2, 3)),
    case("dynamic_update_slice_static_large", lambda x, u: lax.dynamic_update_slice(x, u, (31, 2)), _BIG, _data.normal(12, 13)),
    case("dynamic_update_slice_empty", lambda x, u, s: lax.dynamic_update_slice(x, u, (s, s)), _X, np.zeros((0, 3)), np.array(1)),
    case("dynamic_index", lambda x, i: (lax.dynamic_index_in_dim(x, i, 0), lax.dynamic_index_in_dim(x, i, 1, keepdims=False), lax.dynamic_update_index_in_dim(x, x[0] * 2, i, 0)), _X, np.array(3)),
    case("dynamic_slice_vmapped", jax.vmap(lambda x, s: lax.dynamic_slice(x, (s, s * 0), (2, 3))), _CUBE, _data.integers(-2, 9, 5)),
    case("searchsorted", lambda x, v: (jnp.searchsorted(x, v), jnp.searchsorted(x, v, side="right"), jnp.searchsorted(x, v, method="scan_unrolled")), np.linspace(-1, 1, 9), np.append(_data.normal(5), [0.0, -1.0, np.nan])),
    case("histogram", lambda i: (jnp.bincount(i, length=6), jax.ops.segment_sum(jnp.ones(9), i, 6)), _KEYS),
    case("segments", lambda x, i: (jax.ops.segment_max(x, i, 6), jax.ops.segment_prod(x, i, 6)), _data.normal(9), _KEYS),
    case("one_hot", lambda i: (jax.nn.one_hot(i, 6), jnp.eye(6)[i]), _KEYS),
    case("choose", lambda i, x: (jnp.choose(i % 3, list(x[:3]), mode="clip"), jnp.select([x[0] > 0, x[1] > 0], [x[2], x[3]], 1.0)), _data.integers(0, 9, 4), _X),
    case("where_index", lambda x: jnp.nonzero(x > 0, size=5, fill_value=-1), _data.normal(9)),
    case("gradient_of_gather", jax.grad(lambda x: jnp.sum(jnp.sin(x[np.array([1, 1, 4])]) * x[np.array([0, 2, 2])])), _data.normal(6)),
    case("gradient_of_dynamic", lambda x, i: jax.grad(lambda x: jnp.sum(x[i] ** 2) + lax.dynamic_slice(x, (i[0],), (2,)).sum())(x), _data.normal(6), _I),
)  # fmt: skip
