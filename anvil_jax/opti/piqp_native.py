"""Finds an installed PIQP with its C interface, for solvers that are compiled against it.

The `piqp` package on its own has neither headers nor symbols to link with; what is found here was
built from PIQP's source with CMake (``BUILD_C_INTERFACE``, on by default), or by a package manager.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anvil_jax.errors import ToolchainError

ROOT_VARIABLE = "ANVIL_JAX_PIQP_ROOT"
NOWHERE = "none"

_PREFIX_VARIABLES = ("piqp_ROOT", "PIQP_ROOT", "CMAKE_PREFIX_PATH", "CONDA_PREFIX")
_SYSTEM_PREFIXES = ("/usr/local", "/usr", "/opt/homebrew")
_INCLUDES = ("include/piqp_c", "include")
_FOLDERS = ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")
_LIBRARIES = ("libpiqpc.so", "libpiqpc.dylib", "libpiqpc.a")
_PACKAGES = ("piqp_c", "piqpc", "piqp")


@dataclass(frozen=True, slots=True)
class PiqpInstallation:
    """PIQP's C interface on this machine.

    Attributes:
        include: the folder of ``piqp.h``.
        library: ``libpiqpc``, shared or static.
        found_by: what led to it, such as ``ANVIL_JAX_PIQP_ROOT`` or ``pkg-config piqp``.
    """

    include: Path
    library: Path
    found_by: str

    @property
    def has_multistage(self) -> bool:
        """Whether it was built with BLASFEO, without which it has no multistage solver."""
        files = self.library.parent.glob("libpiqp*")
        return any(b"blasfeo" in file.read_bytes() for file in files if file.is_file())

    @property
    def compile_arguments(self) -> tuple[str, ...]:
        """What a compiler needs to see the headers."""
        return ("-isystem", str(self.include))

    @property
    def arguments(self) -> tuple[str, ...]:
        """Both, for a compiler that links at once."""
        return (*self.compile_arguments, *self.link_arguments)

    @property
    def link_arguments(self) -> tuple[str, ...]:
        """What it needs, behind the sources, to link a library that is loaded from anywhere."""
        if self.library.suffix == ".a":
            return (str(self.library),)
        return (str(self.library), f"-Wl,-rpath,{self.library.parent}")


def find_piqp() -> PiqpInstallation | None:
    """PIQP's C interface, None if it is not installed.

    It is looked for in the folder that the environment variable ANVIL_JAX_PIQP_ROOT names and, if
    that is not set, with pkg-config, below what CMake would search (piqp_ROOT, CMAKE_PREFIX_PATH),
    in the active conda and Python environments and in the system's folders. ``none`` there stands
    for no search at all.

    Raises:
        ToolchainError: ANVIL_JAX_PIQP_ROOT names a folder without PIQP's C interface.
    """
    root = os.environ.get(ROOT_VARIABLE, "").strip()
    if root == NOWHERE:
        return None
    if root:
        found = _in_prefix(Path(root), ROOT_VARIABLE)
        if found is None:
            raise ToolchainError(
                f"{ROOT_VARIABLE}={root!r}: there is no {_INCLUDES[0]}/piqp.h with "
                f"{_FOLDERS[0]}/{_LIBRARIES[0]} below it. Name the folder PIQP was installed to, "
                f"built with BUILD_C_INTERFACE=ON, or unset {ROOT_VARIABLE}."
            )
        return found
    return _from_pkg_config() or next(
        (found for prefix, name in _prefixes() if (found := _in_prefix(prefix, name))), None
    )


def _prefixes() -> Iterator[tuple[Path, str]]:
    for variable in _PREFIX_VARIABLES:
        for word in os.environ.get(variable, "").replace(";", os.pathsep).split(os.pathsep):
            if word:
                yield Path(word), variable
    yield Path(sys.prefix), "Python environment"
    for folder in _SYSTEM_PREFIXES:
        yield Path(folder), folder


def _in_prefix(prefix: Path, name: str) -> PiqpInstallation | None:
    folders = [prefix / folder for folder in _INCLUDES]
    return _installation(folders, [prefix / folder for folder in _FOLDERS], name)


def _installation(includes: list[Path], folders: list[Path], name: str) -> PiqpInstallation | None:
    include = next((folder for folder in includes if (folder / "piqp.h").is_file()), None)
    places = (folder / library for folder in folders for library in _LIBRARIES)
    library = next((place for place in places if place.is_file()), None)
    if include is None or library is None:
        return None
    return PiqpInstallation(include.absolute(), library.absolute(), name)


def _from_pkg_config() -> PiqpInstallation | None:
    program = shutil.which("pkg-config")
    if program is None:
        return None
    for package in _PACKAGES:
        answers = []
        for variable in ("includedir", "libdir"):
            result = subprocess.run(
                [program, f"--variable={variable}", package],
                capture_output=True,
                text=True,
                check=False,
            )
            answers.append(result.stdout.strip())
        if not all(answers):
            continue
        include, folder = map(Path, answers)
        found = _installation(
            [include / "piqp_c", include], [folder], f"{Path(program).name} {package}"
        )
        if found is not None:
            return found
    return None
