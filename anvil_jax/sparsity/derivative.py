"""`SparseDerivative`: one sparse Jacobian or Hessian, and the JAX programs it can be computed by.

    structure   which entries exist, and the values of those that are constant
    pattern     the entries to compute, in CSC order
    tangents    the derivative program with one symbolic tangent per input, for elimination
    split       the function as maps over stages or elements, for blocks
    compressed  coloured passes and recovery: works for every function, and is what JAX runs when
                it differentiates, batches or jits the derivative

`lowering.derivatives` chooses among them.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import scipy.sparse as sp
from jax import numpy as jnp
from jax.extend.core import Jaxpr, jaxpr_as_fun

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.coloring import Coloring, color_hessian, color_jacobian
from anvil_jax.sparsity.detection import Detected, detect_hessian, detect_jacobian
from anvil_jax.sparsity.maps import Split, split_maps
from anvil_jax.sparsity.pattern import Pattern
from anvil_jax.sparsity.recovery import Recovery, recovery, symmetric_recovery
from anvil_jax.tracing import walk_equations

type Kind = Literal["jacobian", "hessian"]
type Mode = Literal["auto", "fwd", "rev", "both", "star", "acyclic"]

MODES: dict[Kind, tuple[Mode, ...]] = {
    "jacobian": ("auto", "fwd", "rev", "both"),
    "hessian": ("auto", "star", "acyclic"),
}


@dataclass(frozen=True, slots=True)
class Tangents:
    """A derivative program that is linear (Jacobian) or bilinear (Hessian) in its last inputs.

    Attributes:
        jaxpr: closed; the function's inputs, then `sets` times one tangent per active leaf.
        order: 1 for ``(x, t) -> J t``, 2 for ``(x, t, s) -> s' H t``.
        transposed: the program is ``(x, w) -> J' w``: the function has reverse mode only.
    """

    jaxpr: Jaxpr
    order: Literal[1, 2]
    transposed: bool = False


@dataclass(frozen=True, eq=False)
class SparseDerivative:
    """A sparse derivative of a flat function.

    Attributes:
        kind: ``jacobian`` of all outputs, or ``hessian`` of the only one (its upper triangle).
        jaxpr: the function, closed.
        wrt: flat inputs that are differentiated; columns are their elements, one after the other.
        given: `csc_array` supplied by the user instead of a detected pattern (both triangles of a
            Hessian); None to detect.
        mode: ``auto`` lets the lowering choose; anything else means coloured passes of that kind.
        symmetric: the Jacobian is symmetric, as the user says: it is coloured as a Hessian is.
    """

    kind: Kind
    jaxpr: Jaxpr
    wrt: tuple[int, ...]
    given: Any = None
    mode: Mode = "auto"
    symmetric: bool = False

    # ---- sizes ----

    @property
    def _in_avals(self) -> Sequence[Any]:
        return self.jaxpr.in_avals

    @property
    def out_avals(self) -> Sequence[Any]:
        """Shape and dtype of each output."""
        return self.jaxpr.out_avals

    @functools.cached_property
    def inputs(self) -> tuple[Any, ...]:
        """Avals of the active inputs."""
        return tuple(self._in_avals[k] for k in self.wrt)

    @functools.cached_property
    def active_outputs(self) -> tuple[int, ...]:
        """Positions of the floating-point outputs."""
        return tuple(
            k for k, aval in enumerate(self.out_avals) if jnp.issubdtype(aval.dtype, jnp.floating)
        )

    @property
    def cols(self) -> int:
        """Number of columns."""
        return sum(aval.size for aval in self.inputs)

    @property
    def rows(self) -> int:
        """Number of rows."""
        if self.kind == "hessian":
            return self.cols
        return sum(aval.size for aval in self.out_avals)

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        outputs = [self.out_avals[k].dtype for k in self.active_outputs]
        if self.kind == "hessian":
            outputs += [aval.dtype for aval in self.inputs]
        return np.dtype(functools.reduce(np.promote_types, outputs, np.dtype(np.float32)))

    # ---- structure ----

    @functools.cached_property
    def structure(self) -> Any:
        """A `csr_array` of all entries (both triangles of a Hessian): constants, NaN if varying."""
        return _varying(self.given) if self.given is not None else self._detected.matrix

    @functools.cached_property
    def _detected(self) -> Detected:
        detect = detect_hessian if self.kind == "hessian" else detect_jacobian
        return detect(self.jaxpr, self.wrt)

    @functools.cached_property
    def pattern(self) -> Pattern:
        """The entries that are computed, in CSC order."""
        return Pattern.of(sp.triu(self.structure) if self.kind == "hessian" else self.structure)

    @property
    def nnz(self) -> int:
        """Number of values."""
        return self.pattern.nnz

    @property
    def density(self) -> float:
        """Share of the entries that exist."""
        return self.nnz / max(self.rows * self.cols, 1)

    # ---- programs ----

    @functools.cached_property
    def tangents(self) -> Tangents:
        """The derivative program whose tangents are symbols."""
        if self.kind == "jacobian":
            return Tangents(self._detected.jaxpr, 1, self._detected.transposed)
        second = self._forward_mode(self._second, (*self.inputs, *self.inputs))
        if second is not None:
            return Tangents(second, 2)
        return Tangents(self._traced(self._push_gradient, self.inputs), 1)

    def _forward_mode(self, program: Callable[..., Any], tangents: Sequence[Any]) -> Jaxpr | None:
        """The traced program, None if the function has ``custom_vjp`` rules only."""
        try:
            traced = self._traced(program, tangents)
        except (TypeError, NotImplementedError):
            return None
        names = {eqn.primitive.name for eqn, _ in walk_equations(traced)}
        return None if "custom_lin" in names else traced

    @functools.cached_property
    def split(self) -> Split | None:
        """The function as maps, None if it has no such form."""
        return split_maps(self.jaxpr, self.wrt)

    def _traced(self, program: Callable[..., Any], tangents: Sequence[Any]) -> Jaxpr:
        structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in self._in_avals]
        seeds = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in tangents]

        def split(*values: Any) -> Any:
            return program(values[: len(structs)], values[len(structs) :])

        with jax.enable_x64(True):
            return jax.make_jaxpr(split)(*structs, *seeds)

    def _of_active(self, args: Sequence[Any]) -> Callable[..., list[Any]]:
        """The floating-point outputs as a function of the active inputs."""
        function = jaxpr_as_fun(self.jaxpr)

        def active(*values: Any) -> list[Any]:
            filled = list(args)
            for k, value in zip(self.wrt, values, strict=True):
                filled[k] = value
            results = function(*filled)
            return [results[k] for k in self.active_outputs]

        return active

    def _primals(self, args: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(args[k] for k in self.wrt)

    def _push(self, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return jax.jvp(self._of_active(args), self._primals(args), tuple(tangents))[1]

    def _gradient(self, args: Sequence[Any]) -> Callable[..., tuple[Any, ...]]:
        active = self._of_active(args)

        def scalar(*values: Any) -> Any:
            return active(*values)[0].reshape(())

        return jax.grad(scalar, tuple(range(len(self.wrt))))

    def _push_gradient(self, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
        return jax.jvp(self._gradient(args), self._primals(args), tuple(tangents))[1]

    def _second(self, args: Sequence[Any], tangents: Sequence[Any]) -> Any:
        active = self._of_active(args)
        first, second = tuple(tangents[: len(self.wrt)]), tuple(tangents[len(self.wrt) :])

        def directional(*values: Any) -> Any:
            return jax.jvp(lambda *x: active(*x)[0].reshape(()), values, first)[1]

        return jax.jvp(directional, self._primals(args), second)[1]

    # ---- coloured passes ----

    @functools.cached_property
    def coloring(self) -> Coloring:
        """The passes of `compressed`; columns that are constant throughout need none."""
        shapes = [aval.shape for aval in self.inputs]
        if self._is_symmetric:
            method = self.mode if self.mode in ("star", "acyclic") else "auto"
            return color_hessian(self._colored, method=method)
        return color_jacobian(self._colored, mode=self._direction, input_shapes=shapes)

    @property
    def _is_symmetric(self) -> bool:
        return self.kind == "hessian" or (self.symmetric and self.mode == "auto")

    @property
    def _direction(self) -> Any:
        if self.mode != "auto":
            return self.mode
        return "rev" if self.reverse_only else "auto"

    @functools.cached_property
    def reverse_only(self) -> bool:
        """Whether JAX has no forward mode for the function (``custom_vjp``)."""
        return self.kind == "jacobian" and self.tangents.transposed

    @functools.cached_property
    def _constant_columns(self) -> np.ndarray:
        """Columns of a Jacobian whose entries are all known."""
        if self._is_symmetric:
            return np.zeros(self.cols, bool)
        varying = self.pattern.columns[np.isnan(self.pattern.coefficients)]
        return np.bincount(varying, minlength=self.cols) == 0

    @functools.cached_property
    def _colored(self) -> Any:
        """The entries that coloured passes have to find."""
        if self._is_symmetric:
            return sp.csc_array(self.structure)
        pattern, keep = self.pattern, ~self._constant_columns[self.pattern.columns]
        entries = (pattern.coefficients[keep], (pattern.rows[keep], pattern.columns[keep]))
        return sp.csc_array(entries, shape=pattern.shape)

    @functools.cached_property
    def _recovery(self) -> Recovery:
        if self._is_symmetric:
            return symmetric_recovery(self._colored, self.coloring, upper=self.kind == "hessian")
        return recovery(self._colored, self.coloring)

    def compressed(self, *args: Any) -> Any:
        """The values by coloured passes, as a JAX function of the flat inputs."""
        with jax.enable_x64(True):
            return self._compressed(args)

    def _compressed(self, args: Sequence[Any]) -> Any:
        if self.nnz == 0:
            return jnp.zeros((0,), self.dtype)
        found = self._recovery
        columns = rows = None
        if found.column_seeds.shape[0]:
            columns = jax.vmap(lambda t: self._forward(args, t))(self._seeds(found.column_seeds))
        if found.row_seeds.shape[0]:
            rows = self._reverse(args, self._seeds(found.row_seeds))
        if columns is None:
            columns = jnp.zeros((0, self.rows), self.dtype)
        if rows is None:
            rows = jnp.zeros((0, self.cols), self.dtype)
        values = found.values(columns, rows)
        if not self._constant_columns.any():
            return values
        known = self._constant_columns[self.pattern.columns]
        template = np.where(known, self.pattern.coefficients, 0.0).astype(self.dtype)
        return jnp.asarray(template).at[np.flatnonzero(~known)].set(values, unique_indices=True)

    def _seeds(self, seeds: np.ndarray) -> Any:
        return jnp.asarray(np.asarray(seeds).astype(self.dtype))

    def _forward(self, args: Sequence[Any], seed: Any) -> Any:
        tangents = _unflatten(seed, self.inputs)
        if self.kind == "hessian":
            return _flatten(self._push_gradient(args, tangents), self.dtype)
        return self._all_rows(self._push(args, tangents))

    def _reverse(self, args: Sequence[Any], seeds: Any) -> Any:
        _, pull = jax.vjp(self._of_active(args), *self._primals(args))

        def one(seed: Any) -> Any:
            every = _unflatten(seed, self.out_avals)
            return _flatten(pull([every[k] for k in self.active_outputs]), self.dtype)

        return jax.vmap(one)(seeds)

    def _all_rows(self, results: Sequence[Any]) -> Any:
        """Tangents of all outputs; those of integers are zero."""
        given = dict(zip(self.active_outputs, results, strict=True))
        return _flatten(
            [
                given.get(k, jnp.zeros(aval.shape, self.dtype))
                for k, aval in enumerate(self.out_avals)
            ],
            self.dtype,
        )

    # ---- checks ----

    def check_given(self) -> None:
        """Compare the user's pattern with the detected one.

        Raises:
            SparsityError: an entry that can be different from zero is missing; the message lists
                some of them.
        """
        assert self.given is not None
        detected = SparseDerivative(self.kind, self.jaxpr, self.wrt)
        pattern = detected.pattern
        missing = ~np.isin(pattern.keys, self.pattern.keys)
        if not missing.any():
            return
        found = np.flatnonzero(missing & detected.nonzero())
        if len(found):
            places = [(pattern.rows[k], pattern.columns[k]) for k in found[:5]]
            listed = ", ".join(f"({i}, {j})" for i, j in places)
            raise SparsityError(
                f"the given sparsity pattern misses {len(found)} "
                f"entr{'y' if len(found) == 1 else 'ies'} of the {self.kind} that "
                f"{'is' if len(found) == 1 else 'are'} not zero: {listed}"
                f"{', ...' if len(found) > 5 else ''}; add them or leave pattern= out"
            )

    def nonzero(self, samples: int = 3) -> np.ndarray:
        """Which values (nnz,) are different from zero at one of some random points."""
        return self._differ_from_zero(self.compressed, samples)

    def vanish(self, places: Sequence[tuple[int, int]], samples: int = 3) -> bool:
        """Whether all entries (row, column) of `places` are zero at some random points."""
        rows, columns = np.asarray(places).T
        by_row = self.reverse_only
        lines, position = np.unique(rows if by_row else columns, return_inverse=True)
        seeds = np.zeros((len(lines), self.rows if by_row else self.cols))
        seeds[np.arange(len(lines)), lines] = 1.0

        def entries(*args: Any) -> Any:
            if by_row:
                return self._reverse(args, self._seeds(seeds))[position, columns]
            products = jax.vmap(lambda t: self._forward(args, t))(self._seeds(seeds))
            return products[position, rows]

        return not self._differ_from_zero(entries, samples).any()

    def _differ_from_zero(self, evaluate: Callable[..., Any], samples: int) -> np.ndarray:
        random = np.random.default_rng(0)
        found: Any = False
        with jax.enable_x64(True):
            compiled = jax.jit(evaluate)
            for _ in range(samples):
                args = [_random_like(random, aval) for aval in self._in_avals]
                found = found | (np.asarray(compiled(*args)) != 0)
        return found


def _varying(pattern: Any) -> Any:
    entries = (np.full(pattern.nnz, np.nan), pattern.indices, pattern.indptr)
    return sp.csr_array(sp.csc_array(entries, shape=pattern.shape))


def _flatten(leaves: Sequence[Any], dtype: np.dtype[Any]) -> Any:
    if not leaves:
        return jnp.zeros((0,), dtype)
    return jnp.concatenate([jnp.ravel(x).astype(dtype) for x in leaves])


def _unflatten(vector: Any, avals: Sequence[Any]) -> list[Any]:
    leaves, begin = [], 0
    for aval in avals:
        part = vector[begin : begin + aval.size].reshape(aval.shape)
        leaves.append(part.astype(aval.dtype))
        begin += aval.size
    return leaves


def _random_like(random: np.random.Generator, aval: Any) -> np.ndarray:
    if np.issubdtype(aval.dtype, np.floating):
        return random.uniform(0.1, 1.0, aval.shape).astype(aval.dtype)
    return random.integers(0, 2, aval.shape).astype(aval.dtype)
