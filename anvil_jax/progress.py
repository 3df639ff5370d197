"""One line on the terminal for work that turns out to take long."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

VERBOSE_VARIABLE = "ANVIL_JAX_VERBOSE"


def is_shown() -> bool:
    """Whether progress lines are printed: a person is watching stderr, or asked for them."""
    if os.environ.get(VERBOSE_VARIABLE, "") not in ("", "0"):
        return True
    return sys.stderr is not None and sys.stderr.isatty()


def _announce(activity: str) -> None:
    sys.stderr.write(f"anvil_jax: {activity} ...\n")
    sys.stderr.flush()


@contextmanager
def progress(activity: str, after: float = 1.0) -> Iterator[None]:
    """Say on stderr what is going on if the body takes longer than `after` seconds.

    Example::

        with progress("compiling quadrotor with g++"):
            ...

    Args:
        activity: what is being done, as a participle.
        after: patience in seconds.
    """
    if not is_shown():
        yield
        return
    timer = threading.Timer(after, _announce, args=(activity,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
