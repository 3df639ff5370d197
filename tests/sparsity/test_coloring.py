"""Colourings: valid by brute force on random patterns, few colours on known ones, and fast."""

import itertools
import time
from typing import Any, cast

import numpy as np
import pytest
import scipy.sparse as sp

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.coloring import Coloring, color_hessian, color_jacobian
from anvil_jax.sparsity.coloring.hessian import MAX_AUTO_DEPTH
from anvil_jax.sparsity.recovery import symmetric_recovery
from tests.sparsity import patterns

MODES = ("auto", "fwd", "rev", "both")
METHODS = ("auto", "star", "acyclic")


# ---- independent checks, on dense matrices ----


def seeds(colors: np.ndarray) -> np.ndarray:
    """(passes, n) zeros and ones."""
    passes = np.arange(colors.max(initial=-1) + 1)
    return (passes[:, None] == colors).astype(int)


def check_numbers(coloring: Coloring, shape: tuple[int, int]) -> None:
    assert (len(coloring.rows), len(coloring.columns)) == shape
    for colors, count in (
        (coloring.columns, coloring.n_forward),
        (coloring.rows, coloring.n_reverse),
    ):
        used = set(colors.tolist()) - {-1}
        assert used == set(range(count))
    assert coloring.passes == coloring.n_forward + coloring.n_reverse
    assert coloring.lower_bound <= coloring.passes
    assert coloring.order


def is_direct(matrix: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> bool:
    """Whether every entry is the only one of its column's colour in its row, or vice versa."""
    forward = matrix.astype(int) @ seeds(columns).T
    reverse = seeds(rows) @ matrix.astype(int)
    return all(
        (columns[j] >= 0 and forward[i, columns[j]] == 1)
        or (rows[i] >= 0 and reverse[rows[i], j] == 1)
        for i, j in zip(*np.nonzero(matrix), strict=True)
    )


def is_determined(matrix: np.ndarray, columns: np.ndarray) -> bool:
    """Whether a symmetric matrix follows from the products, as a linear system of its entries."""
    unknowns = [(i, j) for i, j in zip(*np.nonzero(matrix), strict=True) if i <= j]
    n, passes = len(matrix), columns.max(initial=-1) + 1
    system = np.zeros((n * passes, len(unknowns)))
    for k, (i, j) in enumerate(unknowns):
        for row, column in {(i, j), (j, i)}:
            if columns[column] >= 0:
                system[columns[column] * n + row, k] = 1
    return len(unknowns) == 0 or np.linalg.matrix_rank(system) == len(unknowns)


def has_cycle(matrix: np.ndarray, columns: np.ndarray) -> bool:
    """Whether the edges between two colours, or inside one, form a cycle."""
    trees: dict[tuple[int, int], dict[int, int]] = {}
    for i, j in zip(*np.nonzero(np.triu(matrix, 1)), strict=True):
        colors = (int(columns[i]), int(columns[j]))
        if -1 in colors:
            continue
        if colors[0] == colors[1]:
            return True
        tree = trees.setdefault((min(colors), max(colors)), {})

        def root(v, tree=tree):
            while tree.setdefault(v, v) != v:
                v = tree[v]
            return v

        a, b = root(i), root(j)
        if a == b:
            return True
        tree[a] = b
    return False


def check_jacobian(pattern: sp.csc_array, coloring: Coloring) -> None:
    matrix = pattern.toarray() != 0
    check_numbers(coloring, matrix.shape)
    if coloring.kind == "columns":
        assert coloring.n_reverse == 0
    if coloring.kind == "rows":
        assert coloring.n_forward == 0
    assert is_direct(matrix, coloring.columns, coloring.rows)


def check_hessian(pattern: sp.csc_array, coloring: Coloring) -> None:
    matrix = pattern.toarray() != 0
    check_numbers(coloring, matrix.shape)
    assert coloring.n_reverse == 0
    if coloring.kind == "star":
        assert is_direct(matrix, coloring.columns, coloring.columns)
    else:
        assert not has_cycle(matrix, coloring.columns)
        assert is_determined(matrix, coloring.columns)


# ---- validity ----


@pytest.mark.parametrize("mode", MODES)
def test_random_jacobians(mode):
    rng = np.random.default_rng(1)
    for seed in range(120):
        m, n = rng.integers(0, 25, 2)
        pattern = patterns.random(m, n, rng.choice([0.0, 0.3, 1.0, 2.0, 5.0]), seed)
        if seed % 3 == 0 and m * n:
            pattern = pattern.tolil()
            pattern[rng.integers(m), :] = 1
            if seed % 2:
                pattern[:, rng.integers(n)] = 1
            pattern = patterns.pattern(pattern)
        coloring = color_jacobian(pattern, mode=mode)
        check_jacobian(pattern, coloring)
        if mode == "fwd":
            assert coloring.kind == "columns"
        if mode == "rev":
            assert coloring.kind == "rows"
        if mode == "both":
            assert coloring.kind == "both"


@pytest.mark.parametrize("shapes", [(), [(6, 7)], [(2, 21)], [(40,), (2,)], [(3, 14)], [(5,)]])
def test_random_stencils(shapes):
    rng = np.random.default_rng(2)
    for _ in range(12):
        offsets = rng.integers(-2, 3, (rng.integers(1, 7), 2)).tolist()
        pattern = patterns.stencil((6, 7), offsets, periodic=bool(rng.integers(2)))
        check_jacobian(pattern, color_jacobian(pattern, mode="fwd", input_shapes=shapes))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("diagonal", [0.0, 0.5, 1.0])
def test_random_hessians(method, diagonal):
    rng = np.random.default_rng(3)
    for seed in range(60):
        n = int(rng.integers(0, 22))
        pattern = patterns.random_graph(n, rng.choice([0.5, 1.5, 3.0, 8.0]), seed, diagonal)
        coloring = color_hessian(pattern, method=method)
        check_hessian(pattern, coloring)
        if method != "auto":
            assert coloring.kind == method


@pytest.mark.parametrize("method", METHODS)
def test_hessians_of_stencils(method):
    for shape in ((5, 6), (8, 4)):
        for offsets in (patterns.cross(2), patterns.cube(2), [(0, 0), (1, 1), (-1, -1)]):
            for periodic in (False, True):
                pattern = patterns.stencil(shape, offsets, periodic)
                coloring = color_hessian(pattern, method=method, input_shapes=[shape])
                check_hessian(pattern, coloring)


def test_trees():
    rng = np.random.default_rng(4)
    for n in (1, 2, 3, 10, 40):
        above = np.array([rng.integers(max(k, 1)) for k in range(n)])
        nodes = np.arange(n)
        pattern = patterns.of_entries(
            np.concatenate([nodes, nodes, above]), np.concatenate([nodes, above, nodes]), (n, n)
        )
        star, acyclic = (color_hessian(pattern, method=m) for m in ("star", "acyclic"))
        check_hessian(pattern, star)
        check_hessian(pattern, acyclic)
        assert star.passes == star.lower_bound
        assert acyclic.passes == acyclic.lower_bound == min(n, 2)


# ---- bounds ----


def every_coloring(n: int, colors: int):
    return (np.array(c, int).reshape(n) for c in itertools.product(range(-1, colors), repeat=n))


def is_possible(matrix: np.ndarray, kind: str, passes: int) -> bool:
    m, n = matrix.shape
    none = np.full(m, -1), np.full(n, -1)
    if kind == "columns":
        return any(is_direct(matrix, c, none[0]) for c in every_coloring(n, passes))
    if kind == "both":
        return any(
            is_direct(matrix, c, r)
            for k in range(passes + 1)
            for c in every_coloring(n, k)
            for r in every_coloring(m, passes - k)
        )
    if kind == "star":
        return any(is_direct(matrix, c, c) for c in every_coloring(n, passes))
    return any(
        is_determined(matrix, c) and not has_cycle(matrix, c) for c in every_coloring(n, passes)
    )


@pytest.mark.parametrize("kind", ["columns", "both", "star", "acyclic"])
def test_no_coloring_beats_the_lower_bound(kind):
    rng = np.random.default_rng(5)
    for seed in range(25):
        if kind in ("columns", "both"):
            pattern = patterns.random(3, 4, rng.choice([1.0, 2.0, 4.0]), seed)
            mode = "fwd" if kind == "columns" else "both"
            coloring = color_jacobian(pattern, mode=mode)
        else:
            degree, diagonal = rng.choice([1.0, 2.0, 5.0]), rng.choice([0.5, 1.0])
            pattern = patterns.random_graph(5, degree, seed, diagonal)
            coloring = color_hessian(pattern, method=kind)
        if coloring.lower_bound:
            assert not is_possible(pattern.toarray() != 0, kind, coloring.lower_bound - 1)


# ---- few colours ----

HEAT_2D, HEAT_3D = (128, 128), (16, 16, 16)

JACOBIANS = [
    ("quadrotor 3", lambda: patterns.quadrotor_shooting(3), [], 17),
    ("quadrotor 20", lambda: patterns.quadrotor_shooting(20), [], 17),
    ("quadrotor 100", lambda: patterns.quadrotor_shooting(100), [], 17),
    ("heat 2-D", lambda: patterns.heat(*HEAT_2D), [HEAT_2D], 5),
    ("heat 2-D, flat input", lambda: patterns.heat(*HEAT_2D), [], 5),
    ("heat 2-D, odd sizes, flat input", lambda: patterns.heat(127, 90), [(127 * 90,)], 5),
    ("heat 3-D", lambda: patterns.heat(*HEAT_3D), [HEAT_3D], 7),
    ("heat 3-D, flat input", lambda: patterns.heat(*HEAT_3D), [], 7),
    ("Brusselator 6", lambda: patterns.brusselator(6), [(2, 6, 6)], 6),
    ("Brusselator 32", lambda: patterns.brusselator(32), [(2, 32, 32)], 8),
    ("Brusselator 64", lambda: patterns.brusselator(64), [(64, 64), (64, 64)], 8),
    ("11 cyclic bands", lambda: patterns.cyclic_banded(1000, 5, 5), [(1000,)], 12),
    ("tridiagonal", lambda: patterns.banded(1000, 1, 1), [(1000,)], 3),
    ("arrow head 12", lambda: patterns.arrow_head(12), [(12,)], 3),
    ("arrow head 10 000", lambda: patterns.arrow_head(10_000), [(10_000,)], 3),
    ("arrow head 100 000", lambda: patterns.arrow_head(100_000), [], 3),
    ("random residuals", lambda: patterns.random_rows(10_007, 4), [], 8),
    ("permuted mesh", lambda: patterns.mesh(60, 2), [], 12),
    ("dense", lambda: patterns.pattern(np.ones((40, 30))), [], 30),
]


@pytest.mark.parametrize(
    ("make", "shapes", "most"), [c[1:] for c in JACOBIANS], ids=[c[0] for c in JACOBIANS]
)
def test_few_passes(make, shapes, most):
    pattern = make()
    coloring = color_jacobian(pattern, input_shapes=shapes)
    assert coloring.passes <= most
    if pattern.shape[0] <= 500:
        check_jacobian(pattern, coloring)


def test_arrow_head_uses_both_directions():
    coloring = color_jacobian(patterns.arrow_head(50))
    assert (coloring.kind, coloring.n_forward, coloring.n_reverse) == ("both", 2, 1)
    assert coloring.lower_bound == 3


HESSIANS = [
    ("tridiagonal", lambda: patterns.banded(1000, 1, 1), 3, 2),
    ("13 bands", lambda: patterns.banded(1000, 6, 6), 13, 7),
    ("star graph", lambda: patterns.star_graph(10_000), 2, 2),
    ("minimal surface", lambda: patterns.elements((100, 100)), 9, 6),
    ("heat energy 3-D", lambda: patterns.heat(*HEAT_3D), 7, 6),
    ("random graph", lambda: patterns.random_graph(10_000, 4), 11, 5),
    ("permuted mesh", lambda: patterns.mesh(60, 2), 12, 7),
]


@pytest.mark.parametrize(
    ("make", "star", "acyclic"), [c[1:] for c in HESSIANS], ids=[c[0] for c in HESSIANS]
)
def test_few_symmetric_passes(make, star, acyclic):
    assert color_hessian(make(), method="star").passes <= star
    assert color_hessian(make(), method="acyclic").passes <= acyclic


def test_auto_weighs_passes_against_substitutions():
    # Two colours make one path here: substitution would go through all of it.
    assert color_hessian(patterns.banded(1000, 1, 1)).kind == "star"
    assert color_hessian(patterns.banded(10, 1, 1)).kind == "acyclic"
    for pattern in (patterns.elements((10, 10)), patterns.mesh(60, 2), patterns.banded(999, 6, 6)):
        coloring = color_hessian(pattern)
        assert coloring.kind == "acyclic"
        assert coloring.passes <= 0.75 * color_hessian(pattern, method="star").passes
        assert symmetric_recovery(pattern, coloring).depth <= MAX_AUTO_DEPTH


def test_reverse_passes_have_a_price():
    pattern = patterns.random(6, 40, 12)  # longer rows than columns
    assert color_jacobian(pattern, reverse_cost=0.1).kind == "rows"
    assert color_jacobian(pattern, reverse_cost=100.0).kind == "columns"


def test_ties_go_forward():
    coloring = color_jacobian(patterns.banded(20, 1, 1), reverse_cost=1.0)
    assert coloring.kind == "columns"


def test_empty_columns_need_no_pass():
    pattern = patterns.pattern(np.diag([1.0, 0.0, 2.0]))
    assert color_jacobian(pattern).columns.tolist() == [0, -1, 0]
    assert color_hessian(pattern).columns.tolist() == [0, -1, 0]


def test_neutral_colors():
    # The hub's pass shows all entries; without diagonal nothing is read from the other colour.
    pattern = patterns.pattern(patterns.star_graph(9) - sp.eye_array(9))
    pattern.eliminate_zeros()
    for method in ("star", "acyclic"):
        coloring = color_hessian(pattern, method=method)
        assert coloring.passes == 1
        assert coloring.columns.tolist() == [0] + [-1] * 8


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (4, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_no_entries(shape, mode):
    coloring = color_jacobian(sp.csc_array(shape), mode=mode, input_shapes=[(shape[1],)])
    assert coloring.passes == coloring.lower_bound == 0
    assert (len(coloring.rows), len(coloring.columns)) == shape
    if shape[0] == shape[1]:
        assert color_hessian(sp.csc_array(shape)).passes == 0


# ---- input ----


@pytest.mark.parametrize("form", [sp.csc_array, sp.csr_array, sp.coo_array, sp.csc_matrix])
def test_any_form_and_stored_zeros(form):
    rows, columns = np.array([2, 0, 0, 1, 2]), np.array([0, 2, 0, 1, 0])
    data = np.array([0.0, np.nan, 1.0, 0.0, 0.0])
    pattern = form(sp.coo_array((data, (rows, columns)), shape=(3, 3)))
    before = pattern.copy()
    wanted = patterns.of_entries(rows, columns, (3, 3))
    check_jacobian(wanted, color_jacobian(pattern, mode="fwd"))
    assert color_jacobian(pattern, mode="fwd").n_forward == 2
    check_hessian(wanted, color_hessian(pattern))
    assert pattern.nnz == before.nnz
    np.testing.assert_array_equal(pattern.data, before.data)


def test_not_canonical():
    pattern = sp.csc_array((np.ones(4), [1, 0, 1, 0], [0, 2, 4]), shape=(2, 2))
    repeated = sp.csc_array((np.ones(5), [1, 0, 1, 1, 0], [0, 3, 5]), shape=(2, 2))
    for p in (pattern, repeated):
        assert color_jacobian(p, mode="fwd").n_forward == 2
        assert color_hessian(p).passes == 2
    assert pattern.indices.tolist() == [1, 0, 1, 0]


def test_same_result_every_time():
    pattern, graph = patterns.random(300, 300, 4), patterns.random_graph(300, 4)
    for color, p in ((color_jacobian, pattern), (color_hessian, graph)):
        first, second = color(p), color(sp.csr_array(p))
        np.testing.assert_array_equal(first.columns, second.columns)
        assert first.order == second.order


def test_errors():
    square = patterns.banded(4, 1, 1)
    with pytest.raises(SparsityError, match="unknown mode 'forward'"):
        color_jacobian(square, **cast(Any, {"mode": "forward"}))
    with pytest.raises(SparsityError, match="unknown method 'tree'"):
        color_hessian(square, **cast(Any, {"method": "tree"}))
    with pytest.raises(SparsityError, match="must be positive"):
        color_jacobian(square, reverse_cost=0.0)
    with pytest.raises(SparsityError, match="SciPy sparse array"):
        color_jacobian(np.ones((2, 2)))
    with pytest.raises(SparsityError, match=r"square, not \(2, 3\)"):
        color_hessian(sp.csc_array((2, 3)))
    with pytest.raises(SparsityError, match="not symmetric"):
        color_hessian(patterns.pattern(np.triu(np.ones((3, 3)))))


# ---- speed ----

LARGE = [
    ("tridiagonal columns", color_jacobian, lambda: patterns.banded(100_000, 1, 1)),
    ("random columns", color_jacobian, lambda: patterns.random_rows(60_013, 5)),
    ("random, any length", color_jacobian, lambda: patterns.random(60_000, 60_000, 5)),
    ("Rosenbrock", color_hessian, lambda: patterns.banded(100_000, 1, 1)),
    ("random graph", color_hessian, lambda: patterns.random_graph(60_000, 4)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("color", "make"), [c[1:] for c in LARGE], ids=[c[0] for c in LARGE])
def test_300_000_entries_in_half_a_second(color, make):
    pattern = make()
    assert pattern.nnz > 295_000
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        color(pattern)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.5
