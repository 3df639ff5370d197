"""Matrix products in every layout."""

# ruff: noqa: E501 - a case is one line

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import INTEGERS, Case, Data, case

_data = Data(5)

# name, shape of the left and right operand, ((contracting), (batch)) dimensions
_LAYOUTS = (
    ("matrix_matrix", (3, 4), (4, 5), (((1,), (0,)), ((), ()))),
    ("left_transposed", (4, 3), (4, 5), (((0,), (0,)), ((), ()))),
    ("right_transposed", (3, 4), (5, 4), (((1,), (1,)), ((), ()))),
    ("both_transposed", (4, 3), (5, 4), (((0,), (1,)), ((), ()))),
    ("matrix_vector", (3, 4), (4,), (((1,), (0,)), ((), ()))),
    ("vector_matrix", (4,), (4, 5), (((0,), (0,)), ((), ()))),
    ("vector_vector", (4,), (4,), (((0,), (0,)), ((), ()))),
    ("outer", (3,), (5,), (((), ()), ((), ()))),
    ("scalar_matrix", (), (2, 3), (((), ()), ((), ()))),
    ("batch_first", (2, 3, 4), (2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
    ("batch_last", (3, 4, 2), (4, 5, 2), (((1,), (0,)), ((2,), (2,)))),
    ("batch_crossed", (3, 2, 4), (4, 2, 5), (((2,), (0,)), ((1,), (1,)))),
    ("two_batches", (2, 3, 4, 5), (3, 2, 5, 6), (((3,), (2,)), ((0, 1), (1, 0)))),
    ("two_contracted", (3, 4, 2), (4, 2, 5), (((1, 2), (0, 1)), ((), ()))),
    ("two_contracted_crossed", (3, 4, 2), (2, 4, 5), (((1, 2), (1, 0)), ((), ()))),
    ("contracted_apart", (4, 3, 2), (2, 5, 4), (((0, 2), (2, 0)), ((), ()))),
    ("free_apart", (3, 4, 2), (5, 4, 3), (((1,), (1,)), ((), ()))),
    ("everything", (2, 4, 3), (2, 4, 3), (((0, 1, 2), (0, 1, 2)), ((), ()))),
    ("only_batch", (2, 3), (2, 3), (((), ()), ((0, 1), (0, 1)))),
    ("unit_extents", (1, 4, 1), (1, 1, 4), (((1,), (2,)), ((0,), (0,)))),
    ("empty_sum", (3, 0), (0, 5), (((1,), (0,)), ((), ()))),
    ("empty_rows", (0, 4), (4, 5), (((1,), (0,)), ((), ()))),
    ("empty_batch", (0, 3, 4), (0, 4, 5), (((2,), (1,)), ((0,), (0,)))),
)


def _layouts(prefix: str, scale: int, draw, change=lambda x: x, **options) -> list[Case]:
    return [
        case(
            f"{prefix}_{name}",
            lambda a, b, d=dimensions: lax.dot_general(change(a), change(b), d),
            draw(*(scale * n if n > 1 else n for n in left)),
            draw(*(scale * n if n > 1 else n for n in right)),
            **options,
        )
        for name, left, right, dimensions in _LAYOUTS
        if scale == 1 or name != "two_batches"
    ]


def _float32(*shape: int) -> np.ndarray:
    return _data.normal(*shape, dtype="float32")


_A, _B = _data.normal(13, 17), _data.normal(17, 9)
_MATRIX = _data.normal(19, 17)

CASES = (
    *_layouts("small", 1, _data.normal),
    *_layouts("large", 5, _data.normal),
    *_layouts("float32", 3, _float32, rtol=1e-4),
    *_layouts("computed", 5, _data.normal, jnp.sin),
    *(case(f"{d}", lambda a, b: (a @ b, lax.dot_general(a, b, (((0,), (1,)), ((), ())))), _data.whole_range(d, 6, 6), _data.whole_range(d, 6, 6)) for d in INTEGERS),
    *(case(f"large_{d}", lambda a, b: a @ b, _data.whole_range(d, 11, 23), _data.whole_range(d, 23, 13)) for d in INTEGERS),
    case("bool", lambda a, b: lax.dot(a, b), _data.booleans(3, 4), _data.booleans(4, 5)),
    case("preferred_float64", lambda a, b: lax.dot(a, b, preferred_element_type="float64"), _data.normal(7, 9, dtype="float32"), _data.normal(9, 4, dtype="float32"), rtol=1e-6),
    case("preferred_int32", lambda a, b: lax.dot(a, b, preferred_element_type="int32"), _data.whole_range("int8", 7, 9), _data.whole_range("int8", 9, 4)),
    case("preferred_int32_small", lambda a, b: lax.dot(a, b, preferred_element_type="int32"), _data.whole_range("int8", 2, 3), _data.whole_range("int8", 3, 2)),
    case("preferred_int64_from_uint8", lambda a, b: lax.dot(a, b, preferred_element_type="int64"), _data.whole_range("uint8", 7, 19), _data.whole_range("uint8", 19, 4)),
    case("nan_and_zero", lambda a, b: a @ b, np.array([[0.0, 1.0], [np.inf, 0.0]]), np.array([[np.nan, np.inf], [1.0, 0.0]])),
    case("transposed_operands", lambda a, b: (b.T @ a.T, a @ b, (a @ b).T), _A, _B),
    case("sliced_operands", lambda a, b: a[::2, 1:12] @ b[2:13, ::3], _A, _B),
    case("reversed_operands", lambda a, b: a[::-1] @ b[::-1, ::-1], _A, _B),
    case("broadcast_operands", lambda a, b: jnp.broadcast_to(a[:1], (13, 17)) @ b, _A, _B),
    case("gram", lambda a: (a @ a.T, a.T @ a), _A),
    case("captured_matrix", lambda x: jnp.asarray(_MATRIX) @ x, _data.normal(17)),
    case("captured_matrix_columns", lambda x: (jnp.asarray(_MATRIX) @ x, jnp.asarray(_MATRIX).T @ jnp.tanh(jnp.asarray(_MATRIX) @ x)), _data.normal(17, 3)),
    case("captured_transposed", lambda x: x @ jnp.asarray(_MATRIX).T, _data.normal(17)),
    case("identity_matrix", lambda x: (jnp.eye(4) @ x, x @ jnp.diag(jnp.arange(4.0))), _data.normal(4, 4)),
    case("quadratic_form", lambda a, x: x @ a @ x, _data.normal(6, 6), _data.normal(6)),
    case("einsum_batch", lambda a, b: jnp.einsum("bij,kbj->bik", a, b), _data.normal(5, 7, 8), _data.normal(9, 5, 8)),
    case("einsum_chain", lambda a, b, c: jnp.einsum("ij,jk,kl->il", a, b, c), _data.normal(3, 4), _data.normal(4, 5), _data.normal(5, 2)),
    case("einsum_diagonal", lambda a: (jnp.einsum("ii->i", a), jnp.einsum("ii", a), jnp.einsum("ij->j", a)), _data.normal(5, 5)),
    case("tensordot", lambda a, b: jnp.tensordot(a, b, axes=((0, 2), (1, 0))), _data.normal(4, 3, 5), _data.normal(5, 4, 6)),
    case("matrix_power", lambda a: jnp.linalg.matrix_power(a, 5), _data.normal(4, 4)),
    case("cross", jnp.cross, _data.normal(5, 3), _data.normal(5, 3)),
    case("panel", lambda a, b: a @ b, _data.normal(35, 150), _data.normal(150, 70)),
    case("long_dot", lambda a, b: a @ b, _data.normal(1001), _data.normal(1001)),
    case("mixed_dtypes", lambda a, b: a @ b, _data.normal(5, 6, dtype="float32"), _data.normal(6, 7)),
)  # fmt: skip
