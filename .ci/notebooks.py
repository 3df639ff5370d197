"""Executes notebooks in a fresh kernel each; a cell that raises fails the run."""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

SECONDS_PER_CELL = 600


def main(names: list[str]) -> int:
    """Execute each notebook in its own folder; the exit status is the number that failed."""
    failed = 0
    for name in names:
        path = Path(name)
        notebook = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        try:
            NotebookClient(
                notebook,
                timeout=SECONDS_PER_CELL,
                kernel_name="python3",
                resources={"metadata": {"path": str(path.parent)}},
            ).execute()
        except CellExecutionError as error:
            failed += 1
            print(f"FAILED {name}\n{error}")
        else:
            print(f"ok {name} ({time.perf_counter() - start:.1f} s)", flush=True)
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
