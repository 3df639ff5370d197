"""Prints scheduled code in C++ and its relatives: what all targets have in common.

Long straight-line code is cut into functions (`layout.py`), because compile time grows faster than
linearly with the length of a function. A target says how its functions and pointers are spelled
(`Dialect`), makes a layout and calls `Printer.block`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.emit.literals import literal, table
from anvil_jax.emit.views import TableView
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import is_float
from anvil_jax.kernels.program import (
    Argument,
    Block,
    BreakUnless,
    Buffer,
    Call,
    For,
    Forever,
    Program,
    Statement,
    Store,
    Switch,
)
from anvil_jax.kernels.schedule import Item
from anvil_jax.targets.intrinsics import INTRINSICS
from anvil_jax.targets.layout import Layout, Outlined, Unit


@dataclass(frozen=True, slots=True)
class Dialect:
    """How functions and pointers are spelled.

    Attributes:
        part: start of the definition of a function that is called, never inlined.
        suffix: behind its parameter list.
        shared: in front of a pointer to memory of inputs, outputs and workspace.
        private: in front of a pointer to local memory of the caller.
        restrict: behind the star of a pointer.
        byte: element type of the workspace.
    """

    part: str
    suffix: str
    shared: str
    private: str
    restrict: str
    byte: str

    def pointer(self, ctype: str, name: str, *, const: bool = False, private: bool = False) -> str:
        """The declaration of a pointer parameter."""
        space = self.private if private else self.shared
        return f"{space}{'const ' if const else ''}{ctype}*{self.restrict} {name}"


@dataclass(slots=True)
class Text:
    """Text of one function under construction and what it refers to from outside.

    Attributes:
        lines: of its body.
        pointers: inputs and outputs.
        counters: of loops around the code.
        arrays: local arrays of a caller.
        declared: local arrays of its own.
        workspace: buffers there and the names of the pointers to them.
        needs_workspace: whether there are any.
        further: other parameters, with their declarations.
    """

    lines: list[str] = field(default_factory=list)
    pointers: set[Buffer] = field(default_factory=set)
    counters: dict[UOp, str] = field(default_factory=dict)
    arrays: dict[Buffer, None] = field(default_factory=dict)
    declared: set[Buffer] = field(default_factory=set)
    workspace: dict[Buffer, str] = field(default_factory=dict)
    needs_workspace: bool = False
    further: dict[str, str] = field(default_factory=dict)


class Printer:
    """Prints one laid-out program, or one kernel of it.

    Attributes:
        functions: definitions of the functions that long code was cut into, in order.
        runtime: run-time headers in use.
        tables: constants by buffer.
    """

    def __init__(self, program: Program, layout: Layout, dialect: Dialect) -> None:
        self.program = program
        self.layout = layout
        self.dialect = dialect
        self.plan = layout.plan
        self.names: dict[UOp, str] = {}
        self.buffer_names: dict[Buffer, str] = {}
        self.tables: dict[Buffer, TableView] = {}
        self.runtime: dict[str, None] = {}
        self.functions: list[str] = []
        self._counts: dict[str, int] = {}
        self._pairs = self._angle_pairs()
        for k, b in enumerate(program.inputs):
            self.buffer_names[b] = f"in{k}"
        for k, b in enumerate(program.outputs):
            self.buffer_names[b.storage] = f"out{k}"
        for b in program.constants:
            assert b.data is not None
            self.tables[b] = table(b.data)
            self.buffer_names[b] = self.tables[b].name

    def _angle_pairs(self) -> dict[UOp, UOp]:
        """sin(x) <-> cos(x) computed in the same function and block: one call gives both."""
        found: dict[tuple[UOp, Block, object], dict[str, UOp]] = {}
        for node in self.layout.unit_of:
            if isinstance(node, UOp) and node.op is Ops.CUSTOM and node.arg in ("sin", "cos"):
                key = (node.src[0], self.plan.block_of[node], self.layout.unit_of[node])
                found.setdefault(key, {})[node.arg] = node
        pairs = {}
        for both in found.values():
            if len(both) == 2:
                pairs[both["sin"]] = both["cos"]
                pairs[both["cos"]] = both["sin"]
        return pairs

    # -- functions ------------------------------------------------------------------------------

    def parameters(self, text: Text, *, whole: bool = False) -> list[tuple[str, str]]:
        """Declarations of a function's parameters, each with what a caller writes there.

        Args:
            text: the function's body.
            whole: all inputs, outputs and the workspace, whether they are used or not.
        """
        found = []
        for b in dict.fromkeys((*self.program.inputs, *(o.storage for o in self.program.outputs))):
            used = b in text.pointers
            if used or whole:
                name = self.buffer_names[b] if used else f"/*{self.buffer_names[b]}*/"
                ctype = ELEMENT_TYPES[b.dtype].cpp
                declared = self.dialect.pointer(ctype, name, const=b.space == "input")
                found.append((declared, self.buffer_names[b]))
        if text.needs_workspace or whole:
            name = "ws" if text.needs_workspace else "/*ws*/"
            found.append((self.dialect.pointer(self.dialect.byte, name), "ws"))
        arrays = [b for b in text.arrays if b not in text.declared]
        for b in sorted(arrays, key=lambda b: int(self.buffer_names[b][1:])):
            name = self.buffer_names[b]
            ctype = ELEMENT_TYPES[b.dtype].cpp
            found.append((self.dialect.pointer(ctype, name, private=True), name))
        outside = [n for n in text.counters if self.names.get(n) is not None]
        counters = sorted(outside, key=self.program.order.__getitem__)
        found += [(f"const int {self.names[n]}", self.names[n]) for n in counters]
        return [*found, *((declared, name) for name, declared in text.further.items())]

    def body(self, text: Text) -> list[str]:
        """The lines of a function: pointers into the workspace, then the code."""
        pointers = [
            f"  {self.dialect.shared}{ELEMENT_TYPES[b.dtype].cpp}* const {name} = "
            f"{self.workspace_pointer(b)};"
            for b, name in text.workspace.items()
        ]
        return [*pointers, *text.lines]

    def workspace_pointer(self, buffer: Buffer) -> str:
        """Where a buffer lies in the workspace."""
        ctype = f"{self.dialect.shared}{ELEMENT_TYPES[buffer.dtype].cpp}"
        return f"reinterpret_cast<{ctype}*>(ws + {self.layout.offsets[buffer]})"

    def reach(self, buffer: Buffer, text: Text) -> None:
        """Notes what `workspace_pointer` refers to."""
        text.needs_workspace = True

    def _outline(self, piece: Outlined, block: Block, caller: Text) -> str:
        text = Text()
        self._items(piece.items, block, text, piece.unit, "  ")
        pairs = self.parameters(text)
        head = f"{self.dialect.part} {piece.unit.name}({', '.join(p for p, _ in pairs)})"
        lines = [f"{head}{self.dialect.suffix} {{", *self.body(text), "}", ""]
        self.functions.append("\n".join(lines))
        caller.pointers |= text.pointers
        caller.needs_workspace |= text.needs_workspace
        caller.further |= text.further
        for b in text.arrays:
            if b not in text.declared:
                caller.arrays.setdefault(b)
        for counter in text.counters:
            caller.counters.setdefault(counter, self.names[counter])
        return f"{piece.unit.name}({', '.join(a for _, a in pairs)});"

    # -- statements -----------------------------------------------------------------------------

    def block(self, block: Block, text: Text, unit: Unit, indent: str) -> None:
        """Prints the statements of a block."""
        declared = [b for b, where in self.layout.local.items() if where is block]
        for b in declared:
            if b not in self.buffer_names:
                self.buffer_names[b] = f"b{self._fresh('b')}"
        for b in sorted(declared, key=lambda b: int(self.buffer_names[b][1:])):
            ctype = ELEMENT_TYPES[b.dtype].cpp
            text.declared.add(b)
            text.lines.append(f"{indent}{ctype} {self.buffer_names[b]}[{max(b.size, 1)}];")
        for piece in self.layout.pieces[block]:
            if isinstance(piece, Outlined):
                text.lines.append(indent + self._outline(piece, block, text))
            else:
                self._items((piece,), block, text, unit, indent)

    def _items(
        self, items: tuple[Item, ...], block: Block, text: Text, unit: Unit, indent: str
    ) -> None:
        for item in items:
            if isinstance(item, UOp):
                self._define(item, text, unit, indent)
            else:
                self._statement(item, text, unit, indent)

    def _define(self, node: UOp, text: Text, unit: Unit, indent: str) -> None:
        if node in self.names:
            return  # defined together with its sine or cosine
        ctype = _ctype(node)
        other = self._pairs.get(node)
        if other is not None:
            sine, cosine = (node, other) if node.arg == "sin" else (other, node)
            angle = self._ref(node.src[0], text, unit)
            self.names[sine] = f"t{self._fresh('t')}"
            self.names[cosine] = f"t{self._fresh('t')}"
            self._require("sin")
            text.lines.append(
                f"{indent}{ctype} {self.names[sine]}, {self.names[cosine]}; "
                f"anvil_rt::sincos({angle}, {self.names[sine]}, {self.names[cosine]});"
            )
            self._keep_crossing(sine, text, indent)
            self._keep_crossing(cosine, text, indent)
            return
        expression = self._expression(node, text, unit)
        self.names[node] = f"t{self._fresh('t')}"
        text.lines.append(f"{indent}const {ctype} {self.names[node]} = {_bare(expression)};")
        self._keep_crossing(node, text, indent)

    def _keep_crossing(self, node: UOp, text: Text, indent: str) -> None:
        if node in self.layout.spilled:
            buffer, slot = self.layout.spilled[node]
            place = self._element(buffer, str(slot), text)
            text.lines.append(f"{indent}{place} = {self.names[node]};")

    def _statement(self, statement: Statement, text: Text, unit: Unit, indent: str) -> None:
        inner = indent + "  "
        match statement:
            case Store():
                index = self._ref(statement.index, text, unit)
                target = self._element(statement.buffer, index, text)
                value = _bare(self._ref(statement.value, text, unit))
                text.lines.append(f"{indent}{target} = {value};")
            case For():
                name = self.names[statement.variable] = f"i{self._fresh('i')}"
                text.lines.append(
                    f"{indent}for (int {name} = 0; {name} < {statement.trips}; ++{name}) {{"
                )
                self.block(statement.body, text, unit, inner)
                text.lines.append(indent + "}")
                text.counters.pop(statement.variable, None)
            case Forever():
                text.lines.append(indent + "for (;;) {")
                self.block(statement.body, text, unit, inner)
                text.lines.append(indent + "}")
            case BreakUnless():
                condition = self._ref(statement.condition, text, unit)
                text.lines.append(f"{indent}if (!{condition}) break;")
            case Switch():
                self._switch(statement, text, unit, indent)
            case Call():
                text.lines.append(indent + self.call(statement, text, unit))

    def call(
        self, call: Call, text: Text, unit: Unit, function: str = "", further: Sequence[str] = ()
    ) -> str:
        """A call of a run-time function, or of another `function` with `further` arguments."""
        self.runtime[call.header] = None
        arguments = [str(number) for number in call.literals]
        arguments += [self._argument(a, text, unit) for a in call.arguments]
        return f"anvil_rt::{function or call.function}({', '.join((*arguments, *further))});"

    def _switch(self, statement: Switch, text: Text, unit: Unit, indent: str) -> None:
        selector = _bare(self._ref(statement.selector, text, unit))
        inner = indent + "  "
        if dtype_name(statement.selector) == "bool":
            otherwise, chosen = statement.branches
            text.lines.append(f"{indent}if ({selector}) {{")
            self.block(chosen, text, unit, inner)
            if self.layout.pieces[otherwise]:
                text.lines.append(f"{indent}}} else {{")
                self.block(otherwise, text, unit, inner)
            text.lines.append(indent + "}")
            return
        text.lines.append(f"{indent}switch ({selector}) {{")
        last = len(statement.branches) - 1
        for k, branch in enumerate(statement.branches):
            text.lines.append(f"{indent}{f'case {k}' if k < last else 'default'}: {{")
            self.block(branch, text, unit, inner)
            text.lines.append(f"{inner}break;")
            text.lines.append(indent + "}")
        text.lines.append(indent + "}")

    def _argument(self, argument: Argument, text: Text, unit: Unit) -> str:
        name = self._buffer(argument.buffer, text)
        offset = self._ref(argument.offset, text, unit)
        return name if offset == "0" else f"{name} + {offset}"

    # -- expressions ----------------------------------------------------------------------------

    def _fresh(self, letter: str) -> int:
        count = self._counts.get(letter, 0)
        self._counts[letter] = count + 1
        return count

    def _require(self, intrinsic: str) -> str:
        row = INTRINSICS[intrinsic]
        self.runtime[row.header] = None
        return f"anvil_rt::{row.function}"

    def _buffer(self, buffer: Buffer, text: Text) -> str:
        buffer = buffer.storage
        if buffer.space in ("input", "output"):
            text.pointers.add(buffer)
            return self.buffer_names[buffer]
        if buffer.space == "constant":
            return self.buffer_names[buffer]
        if buffer in self.layout.local:
            text.arrays.setdefault(buffer)
            return self.buffer_names[buffer]
        self.reach(buffer, text)
        name = self.buffer_names.setdefault(buffer, f"w{len(self.buffer_names)}")
        text.workspace[buffer] = name
        return name

    def _element(self, buffer: Buffer, index: str, text: Text) -> str:
        """The element of a buffer at a place given as text."""
        return f"{self._buffer(buffer, text)}[{_bare(index)}]"

    def _ref(self, node: UOp, text: Text, unit: Unit) -> str:
        """Text that stands for the node's value inside a larger expression."""
        if node.op is Ops.CONST:
            if dtype_name(node) == "index":
                return str(node.arg) if node.arg >= 0 else f"({node.arg})"
            return literal(node.arg if node.tag != "-0" else -0.0, dtype_name(node))
        if node.op is Ops.RANGE:
            text.counters.setdefault(node, self.names[node])
            return self.names[node]
        if node in self.plan.inlined:
            return self._expression(node, text, unit)
        if self.layout.unit_of.get(node) is not unit:
            buffer, slot = self.layout.spilled[node]
            return self._element(buffer, str(slot), text)
        return self.names[node]

    def _expression(self, node: UOp, text: Text, unit: Unit) -> str:
        dtype = dtype_name(node)
        if node.op is Ops.LOAD:
            base, index = node.src[0].src
            return self._element(base.arg, self._ref(index, text, unit), text)
        args = [self._ref(s, text, unit) for s in node.src]
        match node.op:
            case Ops.CAST:
                return self._cast(dtype_name(node.src[0]), dtype, args[0])
            case Ops.BITCAST:
                return f"{self._require('bitcast')}<{_ctype(node)}>({_bare(args[0])})"
            case Ops.WHERE:
                return f"({args[0]} ? {args[1]} : {args[2]})"
            case Ops.CUSTOM:
                return self._custom(node, dtype, args)
            case Ops.SQRT:
                return f"std::sqrt({_bare(args[0])})"
            case Ops.NEG if is_float(node):
                return f"(-{args[0]})"
            case Ops.NEG:
                return f"{self._require('wrap_neg')}<{_ctype(node)}>({_bare(args[0])})"
            case Ops.ADD | Ops.SUB | Ops.MUL if not is_float(node) and dtype != "index":
                wrapped = {Ops.ADD: "wrap_add", Ops.SUB: "wrap_sub", Ops.MUL: "wrap_mul"}[node.op]
                return f"{self._require(wrapped)}<{_ctype(node)}>({', '.join(map(_bare, args))})"
            case Ops.ADD if (
                dtype == "index" and node.src[1].op is Ops.CONST and (node.src[1].arg < 0)
            ):
                return f"({args[0]} - {-node.src[1].arg})"
            case Ops.AND | Ops.OR | Ops.XOR if ELEMENT_TYPES[dtype].bits < 32 and dtype != "bool":
                return f"static_cast<{_ctype(node)}>({args[0]} {_SYMBOLS[node.op]} {args[1]})"
            case Ops.AND | Ops.OR if dtype == "bool":
                return f"({args[0]} {_SYMBOLS[node.op] * 2} {args[1]})"
            case _:
                return f"({args[0]} {_SYMBOLS[node.op]} {args[1]})"

    def _custom(self, node: UOp, dtype: str, args: list[str]) -> str:
        name = node.arg
        if name == "nan":
            return f"std::numeric_limits<{_ctype(node)}>::quiet_NaN()"
        if name == "not":
            return f"(!{args[0]})"
        if name == "le":
            return f"({args[0]} <= {args[1]})"
        if name in ("maximum", "minimum") and not is_float(node):
            name = {"maximum": "int_max", "minimum": "int_min"}[name]
        operand = "int" if dtype == "index" else _ctype(node.src[0])
        return f"{self._require(name)}<{operand}>({', '.join(map(_bare, args))})"

    def _cast(self, source: str, dtype: str, value: str) -> str:
        ctype = "int" if dtype == "index" else ELEMENT_TYPES[dtype].cpp
        if dtype == "bool":
            return f"({value} != {literal(0, 'int32' if source == 'index' else source)})"
        if source.startswith("float") and not dtype.startswith("float"):
            return f"{self._require('convert')}<{ctype}>({_bare(value)})"
        return f"static_cast<{ctype}>({_bare(value)})"


_SYMBOLS = {
    Ops.ADD: "+", Ops.SUB: "-", Ops.MUL: "*", Ops.FDIV: "/", Ops.CDIV: "/", Ops.CMOD: "%",
    Ops.CMPLT: "<", Ops.CMPEQ: "==", Ops.CMPNE: "!=", Ops.AND: "&", Ops.OR: "|", Ops.XOR: "^",
}  # fmt: skip


def _ctype(node: UOp) -> str:
    name = dtype_name(node)
    return "int" if name == "index" else ELEMENT_TYPES[name].cpp


def _bare(text: str) -> str:
    """Drops one pair of parentheses that encloses the whole text."""
    if not text.startswith("("):
        return text
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[1:-1] if k == len(text) - 1 else text
    return text
