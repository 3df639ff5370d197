"""The code under construction: blocks, buffers, and arrays seen the way a rule needs them.

Rules meet this class as the `lowering` they are given (`interpreter.Lowering` adds the walk over
jaxprs to it). They call, roughly in this order: `elementwise` for arithmetic, `elements` / `pull` /
`materialise` to look at operands, `nest`, `loop`, `allocate` and `store` to write statements.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from jax.extend import core

from anvil_jax.dtypes import element_type
from anvil_jax.errors import LoweringError
from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.expression import Expressions, Number
from anvil_jax.kernels.program import (
    Argument,
    Block,
    BreakUnless,
    Buffer,
    Call,
    For,
    Forever,
    Statement,
    Store,
    Switch,
)
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.selection import COST_MODELS, KernelChoice, cost_model
from anvil_jax.lowering.values import (
    Constant,
    Elements,
    Index,
    Pull,
    Value,
    View,
    dense_strides,
    ravel,
)

MAX_DEPTH = 24
"""Nesting of index functions after which an array is written to memory."""

MAX_ELEMENTS = 2**31
"""Addresses are C++ ints."""

_CHEAP = 2
"""Operations per element that are repeated at every use rather than stored."""


_SERIAL = 32
"""Elements that one thread of a graphics processor combines at least."""

_THREADS = 32_768
"""Threads among which a reduction is divided at most."""


class Code:
    """A program under construction.

    Attributes:
        ex: builder of scalar expressions.
        kernel: the user's choice of kernels.
        has_threads: the trips of independent loops become threads of a graphics processor.
        model: thresholds that choose between scalar and tensor kernels.
        root: outermost block.
        block: where statements go at the moment.
        location: the user's file and line being lowered, None if unknown.
    """

    def __init__(self, kernel: KernelChoice = "auto", *, has_threads: bool = False) -> None:
        self.ex = Expressions()
        self.kernel = kernel
        self.has_threads = has_threads
        self.model = cost_model(kernel)
        self.root = self.block = Block()
        self.location: str | None = None
        self._constants: dict[tuple[str, bytes], Buffer] = {}
        self._stored: dict[Pull, Pull] = {}
        self._stored_elements: dict[tuple[UOp, ...], Buffer] = {}
        self._attempted = 0

    def where(self) -> str:
        """Suffix `` (at file:line)`` naming the equation being lowered, empty if unknown."""
        return f" (at {self.location})" if self.location else ""

    def constants(self) -> tuple[Buffer, ...]:
        """The tables made so far."""
        return tuple(self._constants.values())

    def shared(self, value: Value, uses: int) -> Value:
        """Writes a computed array to memory if several users would compute it again."""
        if not isinstance(value, Pull) or value.view is not None:
            return value
        repeated = uses > 1 and value.cost > _CHEAP
        return self.materialise(value) if repeated or value.depth > MAX_DEPTH else value

    def settle(self, value: Value) -> Value:
        """A value that can be read repeatedly, e.g. in every trip of a loop."""
        return self.shared(value, 2)

    @contextmanager
    def attempt(self, model: str) -> Iterator[None]:
        """Builds code under another row of the cost table; an exception leaves no trace of it."""
        saved = self.model, self._attempted
        memory = self._constants, self._stored, self._stored_elements
        self.model, self._attempted = COST_MODELS[model], len(self.block.statements)
        self._constants = dict(self._constants)
        self._stored = dict(self._stored)
        self._stored_elements = dict(self._stored_elements)
        try:
            yield
        except BaseException:
            del self.block.statements[self._attempted :]
            self._constants, self._stored, self._stored_elements = memory
            raise
        finally:
            self.model, self._attempted = saved

    def attempted(self) -> Sequence[Statement]:
        """The statements of the attempt so far."""
        return self.block.statements[self._attempted :]

    def is_inside_thread(self) -> bool:
        """Whether statements go to the body of an independent loop, or of a loop inside one."""
        block: Block | None = self.block
        while block is not None:
            if isinstance(block.owner, For) and block.owner.parallel:
                return True
            block = block.parent
        return False

    def parts(self, results: int, extent: int) -> int:
        """Into how many parts `extent` elements of each result are cut for enough threads."""
        if not self.has_threads or self.is_inside_thread() or extent <= 4 * _SERIAL:
            return 1
        return max(1, min(_THREADS // results, extent // _SERIAL))

    # -- values ---------------------------------------------------------------------------------

    def constant(self, array: np.ndarray) -> Constant:
        """A compile-time array; refuses dtypes that have no C++ form."""
        dtype = element_type(array.dtype, f"a constant{self.where()}").numpy
        return Constant(np.asarray(array), dtype)

    def constant_buffer(self, array: np.ndarray) -> Buffer:
        """The table that holds `array`; equal tables are one."""
        data = np.ascontiguousarray(array)
        key = (data.dtype.name, data.tobytes())
        if key not in self._constants:
            self._constants[key] = Buffer(
                data.dtype.name, data.size, "constant", len(self._constants), data.reshape(-1)
            )
        return self._constants[key]

    def elements(self, value: Value) -> np.ndarray:
        """The scalar expressions of an array, as a NumPy object array of the same shape."""
        if isinstance(value, Elements):
            return value.a
        out = np.empty(value.shape, dtype=object)
        if isinstance(value, Constant):
            for k, number in enumerate(value.a.reshape(-1).tolist()):
                out.reshape(-1)[k] = self.ex.const(number, value.dtype)
            return out
        value = self._stored_form(value)
        for index in np.ndindex(*value.shape):
            out[index] = value.at(tuple(self.ex.index(i) for i in index))
        return out

    def scalar(self, value: Value) -> UOp:
        """The single element of an array of size 1."""
        return self.elements(value).reshape(-1)[0]

    def _stored_form(self, value: Pull) -> Pull:
        """The copy of `value` in memory, if there is one that can be seen from here."""
        stored = self._stored.get(value)
        if stored is None or stored.view is None:
            return value
        scope = stored.view.buffer.scope
        block: Block | None = self.block
        while block is not None and block is not scope:
            block = block.parent
        return value if block is None else stored

    def pull(self, value: Value) -> Pull:
        """The array as a function of its index; scalars are written to memory."""
        if isinstance(value, Pull):
            return self._stored_form(value)
        if isinstance(value, Constant):
            return self._constant_pull(value)
        if value.size == 1 and self.has_threads:
            # Each thread computes it, or reads it if that is cheaper: no kernel of its own.
            element = value.a.reshape(-1)[0]
            return Pull(
                self.ex, value.shape, value.dtype, lambda _: element, cost=0, flat=lambda _: element
            )
        return self._write_elements(value)

    def _constant_pull(self, value: Constant) -> Pull:
        flat = value.a.reshape(-1)
        if flat.size and (flat.size == 1 or flat.tobytes() == flat[:1].tobytes() * flat.size):
            splat = self.ex.const(flat[0], value.dtype)
            return Pull(
                self.ex,
                value.shape,
                value.dtype,
                lambda _: splat,
                cost=0,
                flat=lambda _: splat,
                reads=frozenset(),
            )
        view = View(self.constant_buffer(value.a), self.ex.index(0), dense_strides(value.shape))
        return Pull.of(self.ex, view, value.shape)

    def _write_elements(self, value: Elements) -> Pull:
        key = tuple(value.a.reshape(-1))
        buffer = self._stored_elements.get(key)
        if buffer is None or not self._encloses(buffer.scope):
            buffer = self.allocate(value.dtype, value.size)
            for k, element in enumerate(key):
                self.store(buffer, self.ex.index(k), element)
            self._stored_elements[key] = buffer
        return Pull.of(
            self.ex, View(buffer, self.ex.index(0), dense_strides(value.shape)), value.shape
        )

    def _encloses(self, scope: Block | None) -> bool:
        block: Block | None = self.block
        while block is not None:
            if block is scope:
                return True
            block = block.parent
        return False

    def materialise(self, value: Value) -> Pull:
        """The array in C order in memory; a contiguous view is returned as it is."""
        pull = self.pull(value)
        if pull.is_contiguous:
            return pull
        buffer = self.allocate(pull.dtype, pull.size)
        self.fill(buffer, self.ex.index(0), pull)
        stored = Pull.of(
            self.ex, View(buffer, self.ex.index(0), dense_strides(pull.shape)), pull.shape
        )
        self._stored[pull] = stored
        return stored

    def view(self, buffer: Buffer, shape: Sequence[int]) -> Pull:
        """A whole buffer as an array of `shape`."""
        return Pull.of(self.ex, View(buffer, self.ex.index(0), dense_strides(shape)), shape)

    # -- arithmetic -----------------------------------------------------------------------------

    def is_scalar(self, shape: Sequence[int], *values: Value, cost: int = 1) -> bool:
        """Whether an operation with a result of `shape` belongs to a scalar kernel."""
        size = math.prod(shape)
        if size <= 1:
            return True
        pulls = [v for v in values if isinstance(v, Pull) and v.size > 1]
        if not pulls:
            return size <= self.model.joined_elements and size * cost <= (
                8 * self.model.joined_elements
            )
        return size <= self.model.elements and size * cost <= 8 * self.model.elements

    def elementwise(
        self,
        function: Callable[..., UOp],
        out: core.JaxprEqn | tuple[Sequence[int], str],
        *values: Value,
        cost: int = 1,
    ) -> Value:
        """Applies `function` to corresponding elements; rank-0 operands are repeated.

        Args:
            function: builds the result from scalar expressions.
            out: the equation, or shape and dtype of the result.
            *values: operands of the result's shape or of rank 0.
            cost: operations per element.
        """
        if isinstance(out, tuple):
            shape, dtype = tuple(out[0]), out[1]
        else:
            shape, dtype = aval_shape(out.outvars[0].aval), aval_dtype(out.outvars[0].aval)
        if self.is_scalar(shape, *values, cost=cost):
            return self._map_elements(function, shape, dtype, values)
        pulls = [self._spread(v, shape) for v in values]
        flats = [_repeat(p.at, len(p.shape), self.ex) if p.size == 1 else p.flat for p in pulls]
        zero = self.ex.index(0)

        def at(index: Index) -> UOp:
            return function(
                *(p.at(index if p.shape == shape else (zero,) * len(p.shape)) for p in pulls)
            )

        def flat(position: UOp) -> UOp:
            return function(*(f(position) for f in flats if f is not None))

        return Pull(
            self.ex,
            shape,
            dtype,
            at,
            cost=cost + sum(p.cost for p in pulls),
            depth=1 + max((p.depth for p in pulls), default=0),
            flat=None if any(f is None for f in flats) else flat,
            reads=_union([p.reads for p in pulls]),
        )

    def _spread(self, value: Value, shape: tuple[int, ...]) -> Pull:
        """An operand with its unit axes repeated; a single element is left as it is."""
        if math.prod(value.shape) == 1 or value.shape == shape:
            return self.pull(value)
        return self.pull(self.settle(value)).broadcast_in_dim(shape, range(len(shape)))

    def _map_elements(
        self,
        function: Callable[..., UOp],
        shape: tuple[int, ...],
        dtype: str,
        values: Sequence[Value],
    ) -> Constant | Elements:
        arrays = [np.broadcast_to(self.elements(v), shape).reshape(-1) for v in values]
        out = np.empty(math.prod(shape), dtype=object)
        for k, operands in enumerate(zip(*arrays, strict=True)):
            out[k] = function(*operands)
        return self.joined(out.reshape(shape), dtype)

    def joined(self, elements: np.ndarray, dtype: str) -> Constant | Elements:
        """An array of scalar expressions; a `Constant` if all of them are numbers."""
        numbers = [_number(node) for node in elements.reshape(-1)]
        if any(n is None for n in numbers):
            return Elements(elements, dtype)
        return Constant(np.asarray(numbers, dtype=dtype).reshape(elements.shape), dtype)

    # -- statements -----------------------------------------------------------------------------

    def allocate(self, dtype: str, size: int) -> Buffer:
        """A new intermediate, to be written completely in the current block.

        Raises:
            LoweringError: it would hold 2**31 elements or more.
        """
        self.check_size(size)
        return Buffer(dtype, size, "intermediate", scope=self.block)

    def check_size(self, size: int) -> None:
        """Refuse arrays whose addresses are not C++ ints.

        Raises:
            LoweringError: `size` is 2**31 elements or more.
        """
        if size >= MAX_ELEMENTS:
            raise LoweringError(f"an array of {size} elements is too large{self.where()}")

    def alias(self, buffer: Buffer) -> Buffer:
        """`buffer` as seen from the current block while the block also overwrites it."""
        return Buffer(
            buffer.dtype, buffer.size, buffer.space, scope=self.block, base=buffer, mutable=True
        )

    def store(self, buffer: Buffer, index: UOp, value: UOp) -> None:
        """``buffer[index] = value``."""
        self.block.statements.append(Store(self.ex.tick(), buffer, index, value))

    def fill(self, buffer: Buffer, offset: UOp, value: Value) -> None:
        """Writes an array in C order to ``buffer[offset:]``."""
        if not isinstance(value, Pull) and (isinstance(value, Elements) or value.a.size <= 8):
            for k, element in enumerate(self.elements(value).reshape(-1)):
                self.store(buffer, self.ex.add(offset, self.ex.index(k)), element)
            return
        pull = self.pull(value)
        if pull.flat is not None:
            with self.nest((pull.size,), parallel=True) as (k,):
                self.store(buffer, self.ex.add(offset, k), pull.flat(k))
            return
        strides = dense_strides(pull.shape)
        with self.nest(pull.shape, parallel=True) as index:
            self.store(buffer, ravel(self.ex, index, strides, offset), pull.at(index))

    @contextmanager
    def inside(self, block: Block) -> Iterator[None]:
        """Statements go to `block` for a while."""
        outer, self.block = self.block, block
        try:
            yield
        finally:
            self.block = outer

    @contextmanager
    def loop(self, trips: int, *, parallel: bool = False) -> Iterator[UOp]:
        """A counted loop; yields the counter."""
        variable = self.ex.loop_variable(trips)
        body = Block(self.block)
        statement = For(self.ex.tick(), variable, trips, body, parallel)
        body.owner = statement
        self.block.statements.append(statement)
        with self.inside(body):
            yield variable

    @contextmanager
    def nest(
        self, shape: Sequence[int], *, parallel: bool | Sequence[bool] = False
    ) -> Iterator[Index]:
        """Nested loops over an index space; extents of 1 make no loop.

        Args:
            shape: of the index space, outermost loop first.
            parallel: whether the trips of the loops are independent, or of each of them.
        """
        flags = [parallel] * len(shape) if isinstance(parallel, bool) else parallel
        with ExitStack() as stack:
            yield tuple(
                self.ex.index(0)
                if extent == 1
                else stack.enter_context(self.loop(extent, parallel=flag))
                for extent, flag in zip(shape, flags, strict=True)
            )

    @contextmanager
    def forever(self) -> Iterator[None]:
        """A loop that `break_unless` ends."""
        body = Block(self.block)
        statement = Forever(self.ex.tick(), body)
        body.owner = statement
        self.block.statements.append(statement)
        with self.inside(body):
            yield

    def break_unless(self, condition: UOp) -> None:
        """Ends the enclosing `forever` when `condition` is false."""
        self.block.statements.append(BreakUnless(self.ex.tick(), condition))

    def switch(self, selector: UOp, branches: Sequence[Callable[[], None]]) -> None:
        """Executes the branch that `selector` (in range, or a bool) chooses."""
        blocks = tuple(Block(self.block) for _ in branches)
        statement = Switch(self.ex.tick(), selector, blocks)
        self.block.statements.append(statement)
        for block, branch in zip(blocks, branches, strict=True):
            block.owner = statement
            with self.inside(block):
                branch()

    def call(
        self,
        function: str,
        header: str,
        reads: Sequence[Pull],
        writes: Sequence[Pull],
        operations: int,
        *,
        literals: Sequence[int] = (),
        writes_first: bool = False,
        product: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Calls a run-time function on arrays that lie in memory; see `program.Call`."""

        def argument(array: Pull) -> Argument:
            assert array.view is not None
            return Argument(array.view.buffer, array.view.offset)

        self.block.statements.append(
            Call(
                self.ex.tick(),
                function,
                header,
                tuple(map(argument, reads)),
                tuple(map(argument, writes)),
                operations,
                tuple(literals),
                writes_first,
                product,
            )
        )


def _repeat(at: Callable[[Index], UOp], rank: int, ex: Expressions) -> Callable[[UOp], UOp]:
    """The one element of an array of size 1, whatever position is asked for."""
    return lambda _: at((ex.index(0),) * rank)


def _union(parts: Sequence[frozenset[Buffer] | None]) -> frozenset[Buffer] | None:
    known = [p for p in parts if p is not None]
    return frozenset().union(*known) if len(known) == len(parts) else None


def _number(node: UOp) -> Number | None:
    if node.op is Ops.CONST:
        return -0.0 if node.tag == "-0" else node.arg
    return math.nan if node.op is Ops.CUSTOM and node.arg == "nan" else None
