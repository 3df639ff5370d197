"""A CUDA device on the CPU, for tests of the whole path where there is no GPU.

`build_emulator` compiles two libraries that stand in for the driver (`libcuda.so.1`) and for NVRTC
(`libnvrtc.so.12`); programs compiled against NVIDIA's headers are linked to them instead. Start
reading at `fibers.hpp` (how kernels run), `driver.hpp` (how the driver behaves) and `nvrtc.cpp`.

What the environment of such a program may set is listed at `Emulator.environment`.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from anvil_jax.jit.cuda_toolkit import CudaToolkit
from tests.support.command import run
from tests.support.native import WARNINGS

_HERE = Path(__file__).resolve().parent
_COMMAND = ("g++", "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-shared", "-pthread")


@dataclass(frozen=True, slots=True)
class Emulator:
    """Where the two libraries are, and how a program is compiled, linked and run with them.

    Attributes:
        folder: of the libraries.
        toolkit: whose headers the libraries and the programs are compiled against.
    """

    folder: Path
    toolkit: CudaToolkit

    def build(self, program: Path, *arguments: str | Path, compiler: str = "g++") -> Path:
        """A program that compiles without warnings.

        Args:
            program: the file that is written.
            *arguments: sources, and more for the compiler.
            compiler: that of C++.
        """
        command = [compiler, "-std=c++17", "-O1", *WARNINGS, *self.toolkit.compile_arguments]
        link = [f"-L{self.folder}", f"-Wl,-rpath,{self.folder}", "-lcuda", "-lnvrtc"]
        run([*command, *arguments, "-o", program, *link, "-pthread", "-ldl"])
        return program

    def run(self, *command: str | Path, status: int = 0, **variables: str) -> str:
        """What a program prints that ends with this status."""
        environment = self.environment(**variables)
        return run(command, status=status, timeout=120, env=environment).stdout

    def environment(self, **extra: str) -> dict[str, str]:
        """The environment of a program that uses the emulator.

        Args:
            **extra: set in addition. The emulator reads `ANVIL_EMULATED_` followed by

                - `ORDER`: `forward`, `reverse` or `shuffled`, of threads and blocks;
                - `EAGER`: `1` executes work on streams at once, not when it is waited for;
                - `FAIL`: `name:count[:code]`, a call of the driver that fails;
                - `DEVICES`, `SM`: the number of devices, and their compute capability (`8.0`);
                - `CXX`: the command that compiles kernels, such as `g++ -fsanitize=address`;
                - `CACHE`: a folder of compiled kernels, set here.
        """
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("LD_LIBRARY_PATH")]))
        own = {"LD_LIBRARY_PATH": path, "ANVIL_EMULATED_CACHE": str(self.folder / "modules")}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ANVIL_EMULATED_")}
        return inherited | own | extra


def build_emulator(folder: Path, toolkit: CudaToolkit) -> Emulator:
    """Compiles the emulator into a subfolder of `folder`, named by all that it depends on.

    One process at a time may do it.

    Args:
        folder: where it is kept; a second call with the same sources compiles nothing.
        toolkit: the one to stand in for.
    """
    digest = hashlib.sha256(repr((_HERE, toolkit)).encode())
    for source in sorted([*_HERE.glob("*.hpp"), *_HERE.glob("*.cpp"), Path(__file__)]):
        digest.update(source.name.encode() + source.read_bytes())
    version = digest.hexdigest()[:16]
    emulator = Emulator(folder.resolve() / version, toolkit)
    emulator.folder.mkdir(parents=True, exist_ok=True)
    major = toolkit.nvrtc.name.split(".")[2]  # of libnvrtc.so.12
    _build(emulator, "libcuda.so.1", *_HERE.glob("driver*.cpp"), "-ldl")
    _build(
        emulator,
        f"libnvrtc.so.{major}",
        _HERE / "nvrtc.cpp",
        f'-DANVIL_EMULATOR_FOLDER="{_HERE}"',
        f'-DANVIL_EMULATOR_VERSION="{version}"',
        f"-DANVIL_EMULATED_NVRTC_MAJOR={major}",
    )
    return emulator


def _build(emulator: Emulator, name: str, *arguments: str | Path) -> None:
    """Compiles a library, and links to it by the name that linkers look for."""
    library, draft = emulator.folder / name, emulator.folder / f"draft-{name}"
    if library.exists():
        return
    command = [*_COMMAND, *emulator.toolkit.compile_arguments, f"-Wl,-soname,{name}"]
    run([*command, *arguments, "-o", draft])
    link = library.with_suffix("")
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    draft.replace(library)  # complete, also where this was interrupted before
