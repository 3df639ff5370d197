"""Every error anvil_jax raises on purpose, one tree.

A message says what failed, where in the *user's* file, why, and what to do. Catch `AnvilError` to
catch them all; the subclasses also derive from the built-in a caller would expect (`TypeError` for
a wrong dtype, `ValueError` for a wrong shape), so ordinary handlers keep working.
"""


class AnvilError(Exception):
    """Base class of every error raised by anvil_jax."""


class ArgumentError(AnvilError, ValueError):
    """A call or a specification does not match: arity, shape, name, device or option."""


class DtypeError(AnvilError, TypeError):
    """A dtype is unsupported, or a conversion to the declared dtype would lose data."""


class TracingError(AnvilError, TypeError):
    """JAX could not trace the user's function, or its result is not made of arrays."""


class LoweringError(AnvilError):
    """A traced operation cannot be turned into native code; names the user's file and line."""


class UnsupportedPrimitiveError(LoweringError, NotImplementedError):
    """No rule exists for a primitive and its implementation cannot be traced."""


class SparsityError(AnvilError):
    """A sparsity pattern is wrong or cannot be found."""


class ExportError(AnvilError):
    """A module cannot be written; nothing was left on disk."""


class SolverError(AnvilError):
    """A solver is set up inconsistently."""


class DeviceError(AnvilError, RuntimeError):
    """A graphics processor, its driver or its compiler refused; the message says what it said."""


class ToolchainError(AnvilError):
    """A C++ compiler is missing or failed.

    Attributes:
        command: the command line that was run, empty when no compiler was found.
        returncode: its exit status, or None when nothing ran.
        stderr: the last lines the compiler printed.
        source_path: the kept source file, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        command: tuple[str, ...] = (),
        returncode: int | None = None,
        stderr: str = "",
        source_path: str | None = None,
    ) -> None:
        super().__init__(message)
        self.command = command
        self.returncode = returncode
        self.stderr = stderr
        self.source_path = source_path
