"""SparseNumericalFunction: CSC in Python and in the C++ header, pictures, refusals."""

import shutil
import subprocess
from pathlib import Path

import casadi as ca
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib import pyplot

import anvil_jax as av
from anvil_jax.errors import SparsityError

# [[0, 2], [1, 0], [0, 3]] times the input
SHAPE, INDICES, INDPTR = (3, 2), [1, 0, 2], [0, 1, 3]


def values(x):
    return x * jnp.array([1.0, 2.0, 3.0])


def matrix():
    return av.SparseNumericalFunction("m", values, (av.Arg(()),), SHAPE, 3, INDICES, INDPTR)


def test_call_returns_csc():
    found = matrix()(2.0)
    assert isinstance(found, sp.csc_array)
    np.testing.assert_array_equal(found.toarray(), [[0, 4], [2, 0], [0, 6]])
    np.testing.assert_array_equal(matrix().values(2.0), [2, 4, 6])


def test_decorator():
    @av.sparse_numerical_function("m", (), shape=SHAPE, nnz=3, indices=INDICES, indptr=INDPTR)
    def decorated(x):
        return values(x)

    np.testing.assert_array_equal(decorated(1.0).toarray(), matrix()(1.0).toarray())
    assert decorated.shape == SHAPE
    assert decorated.nnz == 3


def test_header_carries_the_pattern():
    header = matrix().header
    for line in ("constexpr int rows = 3;", "constexpr int cols = 2;", "constexpr int nnz = 3;"):
        assert line in header
    assert "innerIndices[3]" in header
    assert "outerStarts[3]" in header


def test_casadi_sees_a_sparse_matrix(tmp_path: Path):
    def fn(x, p):
        return jnp.concatenate([x[1:] * x[:-1] * p, jnp.sum(x)[None]])

    jacobian = av.spjacobian(av.NumericalFunction("f", fn, (av.Arg(5), av.Arg(()))))
    av.export(jacobian, module="m", path=tmp_path, c_abi=True, self_test=True)
    sources = [str(tmp_path / name) for name in ("m.cpp", "m_casadi.cpp")]
    library, test = str(tmp_path / "m.so"), str(tmp_path / "self_test")
    compiler = shutil.which("c++") or "g++"
    subprocess.run(
        [compiler, "-std=c++17", "-shared", "-fPIC", *sources, "-o", library], check=True
    )
    tested = [sources[0], str(tmp_path / "m_self_test.cpp")]
    subprocess.run([compiler, "-std=c++17", *tested, "-o", test], check=True)
    subprocess.run([test], check=True)
    external = ca.external("f_spjac", library)
    assert external.sparsity_out(0).nnz() == jacobian.nnz == 13
    x = np.arange(1.0, 6.0)
    np.testing.assert_array_equal(external(x, 2.0).full(), jacobian(x, 2.0).toarray())
    assert "Matrix: 5 x 5, 13 non-zeros." in jacobian.header


def test_pattern_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        matrix().indices[0] = 5


def test_composes_as_its_values():
    m = matrix()
    doubled = av.NumericalFunction("doubled", lambda x: m(x) * 2.0, (av.Arg(()),))
    np.testing.assert_array_equal(doubled(1.0), [2, 4, 6])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ((SHAPE, 3, [1, 0, 3], INDPTR), "range"),
        ((SHAPE, 3, [1, 2, 0], INDPTR), "ascending"),
        ((SHAPE, 3, [1, 0, 0], INDPTR), "ascending"),
        ((SHAPE, 2, INDICES, INDPTR), "indptr"),
        ((SHAPE, 3, INDICES, [0, 1, 2, 3]), "indptr"),
        (((3,), 3, INDICES, INDPTR), "matrix"),
    ],
)
def test_bad_patterns(pattern, message):
    with pytest.raises(SparsityError, match=message):
        av.SparseNumericalFunction("m", values, (av.Arg(()),), *pattern)


def test_wrong_number_of_values():
    m = av.SparseNumericalFunction(
        "m", lambda x: x * jnp.ones(4), (av.Arg(()),), SHAPE, 3, INDICES, INDPTR
    )
    with pytest.raises(SparsityError, match="its 3 non-zeros"):
        m(1.0)


def test_empty_matrices():
    none = av.spjacobian(av.NumericalFunction("f", lambda x: jnp.round(x), (av.Arg(3),)))
    assert none.nnz == 0
    assert none(np.ones(3)).toarray().tolist() == np.zeros((3, 3)).tolist()
    no_inputs = av.spjacobian(av.NumericalFunction("f", lambda x: jnp.ones(2), (av.Arg(0),)))
    assert no_inputs(np.zeros(0)).shape == (2, 0)


def test_pictures():
    pyplot.switch_backend("Agg")
    f = av.NumericalFunction("f", lambda x: x[1:] * x[:-1], (av.Arg(9),))
    jacobian = av.spjacobian(f)
    text = jacobian._repr_html_()
    assert text.count("M") >= 16
    assert "8 x 9, 16 non-zeros, 2 colours (columns, at least 2)" in text
    axes = jacobian.spy()
    assert len(axes.collections[0].get_offsets()) == 16
    assert len(matrix().spy().collections[0].get_offsets()) == 3
    assert matrix()._repr_html_().startswith("<figure>")
    pyplot.close("all")
