"""The files of the repository: those git tracks or would track."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def tracked_files(root: Path) -> tuple[Path, ...]:
    """Regular files that git does not ignore, sorted; links are left out."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode("utf-8")
    paths = sorted({root / name for name in names.split("\0") if name})
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())
