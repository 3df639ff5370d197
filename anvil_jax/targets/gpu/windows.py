"""Arrays that are parts of an output from the start, so that nothing has to be copied there.

A loop over instances computes each result in an array of its own and then copies that to its place
in the output. Where nobody else writes to the output, the array can be that place. What is stored
again and again, as the state of a loop, is better kept by the thread and copied once.
"""

from dataclasses import dataclass

from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.index_arithmetic import Affine, affine
from anvil_jax.kernels.program import (
    Block,
    Buffer,
    Call,
    For,
    Forever,
    Program,
    Statement,
    Store,
    operands,
)
from anvil_jax.kernels.schedule import loaded, walk, written


@dataclass(frozen=True, slots=True)
class Window:
    """Where an array lies: in `buffer`, from the element `first` on."""

    buffer: Buffer
    first: Affine


class Windows:
    """Finds windows.

    Attributes:
        found: by array.
    """

    def __init__(self, program: Program) -> None:
        """Look at all of a program that has no dead statements."""
        self.found: dict[Buffer, Window] = {}
        self._writers: dict[Buffer, list[tuple[Block, Statement]]] = {}
        self._read: set[Buffer] = set()
        roots: list[UOp] = []
        for block, statement in walk(program.root):
            for buffer in written(statement):
                self._writers.setdefault(buffer.storage, []).append((block, statement))
            if isinstance(statement, Call):
                self._read |= {argument.buffer.storage for argument in statement.reads}
            roots.extend(operands(statement))
        self._read |= loaded(roots).keys()

    def makes_superfluous(self, loop: Statement) -> bool:
        """Whether `loop` only copies an array to an output; remembers the window if so."""
        match loop:
            case For(body=body, variable=counter, trips=trips):
                pass
            case _:
                return False
        if len(body.statements) != 1 or not isinstance(store := body.statements[0], Store):
            return False
        source, target = _copied(store, counter), store.buffer.storage
        place = affine(store.index)
        if source is None or place is None or place.coefficients.get(counter) != 1:
            return False
        if source.base is not None or source.space != "intermediate" or source.size != trips:
            return False
        if source.scope is not body.parent or source in self.found:
            return False
        writers = self._writers.get(source, [])
        is_alone = self._writers[target] == [(body, store)] and target not in self._read
        is_complete = all(writer.order < loop.order for _, writer in writers)
        if target.space != "output" or target.dtype != source.dtype:
            return False
        if not is_alone or not is_complete or any(_stores_again(*w, source) for w in writers):
            return False
        outer = {node: c for node, c in place.coefficients.items() if node is not counter}
        self.found[source] = Window(target, Affine(place.constant, outer))
        return True


def _stores_again(block: Block, writer: Statement, buffer: Buffer) -> bool:
    """Whether `writer`, which stands in `block`, stores an element of `buffer` more than once."""
    if isinstance(writer, Store):
        places = [writer.index]
    else:
        places = [a.offset for a in getattr(writer, "writes", ()) if a.buffer.storage is buffer]
    moving = [set(found.coefficients) if (found := affine(place)) else set() for place in places]
    inner: Block | None = block
    while inner is not None and inner is not buffer.scope:
        match inner.owner:
            case Forever():
                return True
            case For(parallel=False, variable=counter) if any(counter not in m for m in moving):
                return True
        inner = inner.parent
    return False


def _copied(store: Store, counter: UOp) -> Buffer | None:
    """The array of which `store` takes the element with the number `counter`."""
    load = store.value
    if load.op is not Ops.LOAD or load.src[0].src[1] is not counter:
        return None
    return load.src[0].src[0].arg
