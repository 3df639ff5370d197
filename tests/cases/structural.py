"""Where elements go: reshape, transpose, slice, pad, concatenate, iota and relatives."""

# ruff: noqa: E501 - a case is one line

import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import Case, Data, case

_data = Data(2)

_SMALL, _LARGE = _data.normal(3, 4, 2), _data.normal(7, 9, 5)
_MATRIX, _BIG = _data.normal(3, 4), _data.normal(13, 11)

_PADDINGS = (
    ((1, 2, 0), (0, 3, 0)),
    ((0, 0, 1), (0, 0, 2)),
    ((-1, 1, 0), (2, -2, 0)),
    ((1, -1, 2), (0, 2, 0)),
    ((-2, -1, 1), (1, 1, 1)),
    ((-1, -2, 2), (-3, 0, 3)),
    ((3, -4, 0), (0, 0, 0)),
    ((-1, -1, 3), (0, 0, 0)),
    ((-3, 0, 0), (0, 0, 1)),
    ((0, 0, 0), (-2, -2, 0)),
)


def _pads(x: np.ndarray, name: str, change) -> list[Case]:
    return [
        case(f"pad_{name}_{k}", lambda x, p=p: lax.pad(change(x), jnp.asarray(1.5, x.dtype), p), x)
        for k, p in enumerate(_PADDINGS)
        if all(lo + hi + n + (n - 1) * i >= 0 for n, (lo, hi, i) in zip(x.shape, p, strict=True))
    ]


CASES = (
    *(case(f"transpose_{''.join(map(str, p))}", lambda x, p=p: (x.transpose(p), jnp.sin(x).transpose(p) * 2), _SMALL) for p in itertools.permutations(range(3))),
    *(case(f"transpose_large_{''.join(map(str, p))}", lambda x, p=p: (x.transpose(p), jnp.sin(x).transpose(p) * 2), _LARGE) for p in itertools.permutations(range(3))),
    *_pads(_MATRIX, "small", lambda x: x),
    *_pads(_MATRIX.astype("float32"), "computed", jnp.sin),
    *_pads(_BIG, "large", lambda x: x * 2),
    *_pads(np.arange(12, dtype="int8").reshape(3, 4), "int8", lambda x: x),
    case("pad_empty", lambda x: lax.pad(x, 2.0, ((1, 2, 0), (0, 1, 0))), np.zeros((0, 3))),
    case("pad_empty_large", lambda x: lax.pad(x, 2.0, ((1, 80, 0), (0, 1, 0))), np.zeros((0, 3))),
    case("pad_value_computed", lambda x, v: lax.pad(x, jnp.sin(v), ((1, 0, 1), (0, 2, 0))), _BIG, np.array(0.3)),
    case("pad_modes", lambda x: (jnp.pad(x, 2, mode="edge"), jnp.pad(x, ((1, 2), (0, 1)), mode="wrap"), jnp.pad(x, 1, mode="reflect")), _MATRIX),
    case("reshape", lambda x: (x.reshape(4, 6), x.reshape(-1), x.reshape(2, 3, 4, 1), x.reshape(24, 1)), _SMALL),
    case("reshape_large", lambda x: (x.reshape(5, 63), x.reshape(-1), x.reshape(21, 3, 5)), _LARGE),
    case("reshape_transposed", lambda x: (x.T.reshape(9, 35), x.transpose(1, 0, 2).reshape(-1)), _LARGE),
    case("reshape_transposed_small", lambda x: (x.T.reshape(6, 4), x.transpose(1, 0, 2).reshape(-1)), _SMALL),
    case("reshape_computed", lambda x: (jnp.sin(x) * 2).transpose(2, 0, 1).reshape(9, 35) + 1, _LARGE),
    case("reshape_sliced", lambda x: (x[1:6, ::2, 1:].reshape(-1), x[:, 3].reshape(5, 7)), _LARGE),
    case("reshape_reversed", lambda x: (x[::-1].reshape(-1), x[:, ::-1].reshape(45, 7)), _LARGE),
    case("reshape_broadcast", lambda x: jnp.broadcast_to(x[:, None], (13, 4, 11)).reshape(52, 11), _BIG),
    case("reshape_dimensions", lambda x: lax.reshape(x, (11, 13), (1, 0)), _BIG),
    case("reshape_empty", lambda x: (x.reshape(0, 5), x.reshape(3, 0), x.T), np.zeros((0, 3))),
    case("squeeze", lambda x: (jnp.squeeze(x), jnp.squeeze(x, 0), jnp.squeeze(x[:, ::-1] * 2, (0, 2))), _data.normal(1, 4, 1)),
    case("expand_dims", lambda x: (jnp.expand_dims(x, 0), jnp.expand_dims(x, (1, 3)), x[:, None] * 2), _MATRIX),
    case("expand_dims_large", lambda x: jnp.expand_dims(x.T, (1, 3)) + 1, _BIG),
    case("broadcast_in_dim", lambda x: (lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)), lax.broadcast_in_dim(x, (3, 5, 4), (0, 2))), _MATRIX),
    case("broadcast_in_dim_large", lambda x: (lax.broadcast_in_dim(x, (3, 13, 11), (1, 2)), lax.broadcast_in_dim(x * 2, (13, 5, 11), (0, 2))), _BIG),
    case("broadcast_unit_axes", lambda x: (jnp.broadcast_to(x, (3, 4)), jnp.broadcast_to(x, (2, 3, 4))), _data.normal(3, 1)),
    case("broadcast_scalar", lambda x: (jnp.full((2, 3), x), jnp.broadcast_to(jnp.sin(x), (40, 50))), np.array(0.4)),
    case("broadcast_constant", lambda x: x + jnp.broadcast_to(jnp.arange(50.0), (40, 50)), _data.normal(40, 50)),
    case("broadcast_empty", lambda x: jnp.broadcast_to(x, (0, 3)), _data.normal(3)),
    case("broadcast_expensive", lambda x: jnp.broadcast_to(jnp.exp(x)[:, None], (40, 60)) * 2, _data.normal(40)),
    case("slice", lambda x: (x[1:], x[:, 1:3], x[0:2, ::2, 1:], x[2:2], x[1]), _SMALL),
    case("slice_large", lambda x: (x[1:], x[:, 1:7], x[0:5, ::2, 1:], x[2:2], x[1], x[1::3, 1::4, ::3] * 2), _LARGE),
    case("slice_of_slice", lambda x: (x[1:, 2:][::2, 1:][1:, ::2], (x * 2)[1:, 2:][::2, 1:]), _BIG),
    case("slice_computed", lambda x: jnp.sin(x)[2:9, ::3] + jnp.cos(x)[3:10, ::3], _BIG),
    case("rev", lambda x: (x[::-1], x[:, ::-1, ::-1], lax.rev(x, (0, 1, 2)), lax.rev(x, ())), _SMALL),
    case("rev_large", lambda x: (x[::-1], x[:, ::-1, ::-1], jnp.sin(x)[::-1] * 2), _LARGE),
    case("rev_strided", lambda x: (x[::-2], x[::-3, ::-1], x[:, ::-2][::-1]), _BIG),
    case("rev_transposed", lambda x: x.T[::-1].T[::-1] - x, _BIG),
    case("rev_empty", lambda x: (x[::-1], x[:, ::-1]), np.zeros((0, 3))),
    case("split", lambda x: (jnp.split(x, 2, 1), jnp.split(x, [1], 0), jnp.split(x, [1, 1, 3], 1)), _SMALL),
    case("split_large", lambda x: (jnp.split(x, 3, 1), jnp.split(x * 2, [2, 5], 0), jnp.split(x.T, 5)), _LARGE),
    case("unstack", lambda x: (jnp.unstack(x), jnp.unstack(x, axis=1), jnp.unstack(x * 2, axis=2)), _SMALL),
    case("unstack_large", lambda x: (jnp.unstack(x)[2], jnp.unstack(x * 2, axis=1)[5]), _LARGE),
    *(case(f"concatenate_{axis}", lambda x, axis=axis: (jnp.concatenate([x, x * 2, x[::-1]], axis), jnp.concatenate([x], axis)), _SMALL) for axis in range(3)),
    *(case(f"concatenate_large_{axis}", lambda x, axis=axis: jnp.concatenate([x, x * 2, x[::-1], x], axis), _LARGE) for axis in range(3)),
    case("concatenate_uneven", lambda x, y, z: jnp.concatenate([x, y, z, x]), _data.normal(3), _data.normal(0), _data.normal(50)),
    case("concatenate_scalars", lambda x: jnp.concatenate([x[:1], x[2:3] * 2, jnp.array([7.0]), x]), _data.normal(4)),
    case("concatenate_empty", lambda x: (jnp.concatenate([x, x]), jnp.concatenate([x, x], 1)), np.zeros((0, 3))),
    case("concatenate_mixed", lambda x, y: jnp.concatenate([x.sum(0), y, jnp.zeros(60), jnp.sin(y)]), _BIG, _data.normal(3)),
    case("stack", lambda x, y: (jnp.stack([x, y]), jnp.stack([x, y, x * y], 1), jnp.stack([x, y], -1)), _MATRIX, _data.normal(3, 4)),
    case("stack_large", lambda x, y: (jnp.stack([x, y]), jnp.stack([x, y, x * y], 1), jnp.stack([x, y], -1)), _BIG, _data.normal(13, 11)),
    case("stack_scalars", lambda x: jnp.stack([jnp.stack([x[0], x[1] * 2]), jnp.stack([jnp.sin(x[2]), 1.0])]), _data.normal(3)),
    *(case(f"iota_{d}", lambda x, d=d: (x + jnp.arange(20, dtype=d), lax.broadcasted_iota(d, (3, 4), 1), lax.broadcasted_iota(d, (3, 4), 0)), np.zeros(20, d)) for d in ("float64", "float32", "int8", "uint16", "int64")),
    case("iota_large", lambda x: (x + jnp.arange(3000.0), jnp.arange(2000, dtype="int32")), np.zeros(3000)),
    case("iota_large_axes", lambda x: (x * lax.broadcasted_iota("float64", (50, 40), 0), lax.broadcasted_iota("int32", (50, 40), 1)), _data.normal(50, 40)),
    case("iota_wraps", lambda x: x + jnp.arange(300, dtype="int32").astype("int8"), np.zeros(300, "int8")),
    case("tile", lambda x: (jnp.tile(x, 2), jnp.tile(x, (2, 3)), jnp.tile(x, (2, 1, 1)), jnp.tile(x, (0, 2))), _MATRIX),
    case("tile_large", lambda x: (jnp.tile(x, (2, 3)), jnp.tile(x * 2, (3, 1, 2))), _BIG),
    case("repeat", lambda x: (jnp.repeat(x, 3), jnp.repeat(x, 2, axis=0), jnp.repeat(x, 2, axis=1)), _MATRIX),
    case("roll", lambda x: (jnp.roll(x, 2), jnp.roll(x, -1, 0), jnp.roll(x, (1, 2), (0, 1))), _MATRIX),
    case("roll_large", lambda x: (jnp.roll(x, 5), jnp.roll(x, -4, 0), jnp.roll(x * 2, (1, 7), (0, 1))), _BIG),
    case("flip_rot90", lambda x: (jnp.flip(x), jnp.rot90(x), jnp.fliplr(x), jnp.swapaxes(x, 0, 1)), _MATRIX),
    case("triangles", lambda x: (jnp.triu(x), jnp.tril(x, -1), jnp.triu(x, 1)), _MATRIX),
    case("triangles_large", lambda x: (jnp.triu(x), jnp.tril(x, -3)), _BIG),
    case("diagonals", lambda x, v: (jnp.diag(x), jnp.diag(v), jnp.trace(x), jnp.eye(4) * v, jnp.diag(v, 1)), _MATRIX, _data.normal(4)),
    case("kron", lambda x, y: (jnp.kron(x, y), jnp.kron(x, jnp.eye(2))), _MATRIX, _data.normal(2, 3)),
    case("meshgrid", lambda x, y: jnp.meshgrid(x, y, indexing="ij"), _data.normal(3), _data.normal(5)),
    case("structure_only_bool", lambda x: (x.T.reshape(-1), jnp.concatenate([x, x[::-1]])), _data.booleans(3, 5)),
    case("structure_chain", lambda x: jnp.concatenate([x, x * 2, jnp.flip(x, 0)], 1).T.reshape(-1, 13)[::2], _BIG),
    case("structure_of_constant", lambda x: x + jnp.asarray(_BIG).T.reshape(13, 11)[::-1], _BIG),
    case("block", lambda x: jnp.block([[x, x * 2], [jnp.zeros((2, 4)), x[:2]]]), _MATRIX),
)  # fmt: skip
