"""A CUDA device on the CPU, for tests of the whole path where there is no GPU.

`build_emulator` compiles two libraries that stand in for the driver (`libcuda.so.1`) and for NVRTC
(`libnvrtc.so.12`); programs compiled against NVIDIA's headers are linked to them instead. Start
reading at `host.hpp` (how kernels run), `driver.hpp` (how the driver behaves) and `nvrtc.cpp`.

What the environment of such a program may set is listed at `Emulator.environment`.
"""

import hashlib
import os
import re
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_TOOLKITS = ("/usr/local/cuda/include", "/opt/cuda/include")
_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-shared", "-pthread")


@dataclass(frozen=True, slots=True)
class Emulator:
    """Where the two libraries are, and how a program is compiled, linked and run with them."""

    folder: Path
    headers: tuple[Path, ...]

    @property
    def include_flags(self) -> list[str]:
        """NVIDIA's headers, as system headers: they are not clean under the tests' warnings."""
        return [flag for path in self.headers for flag in ("-isystem", str(path))]

    @property
    def link_flags(self) -> list[str]:
        return [f"-L{self.folder}", f"-Wl,-rpath,{self.folder}", "-lcuda", "-lnvrtc"]

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


def _candidate_folders() -> list[Path]:
    """Folders that may hold headers, in groups of which each belongs to one toolkit."""
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    found = [wheels / name / "include" for name in ("cuda_runtime", "cuda_nvrtc")]
    found += sorted(wheels.glob("cu*/include"))
    roots = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return found + [Path(root) / "include" for root in roots] + [Path(name) for name in _TOOLKITS]


def find_cuda_headers() -> list[Path]:
    """The folders with `cuda.h` and `nvrtc.h`; empty where one of them is missing."""
    chosen: list[Path] = []
    for header in ("cuda.h", "nvrtc.h"):
        folder = next((path for path in _candidate_folders() if (path / header).is_file()), None)
        if folder is None:
            return []
        if folder not in chosen:
            chosen.append(folder)
    return chosen


def _version_of(headers: Sequence[Path]) -> int:
    """The major version of the toolkit that `cuda.h` belongs to."""
    text = next(path / "cuda.h" for path in headers if (path / "cuda.h").is_file()).read_text()
    match = re.search(r"#define\s+CUDA_VERSION\s+(\d+)", text)
    if match is None:
        raise ValueError(f"no CUDA_VERSION in the cuda.h of {headers}")
    return int(match[1]) // 1000


def _compile(command: Sequence[str], output: Path) -> None:
    """Compiles to a draft that is renamed: several test processes may build at the same time."""
    draft = output.with_name(f"{os.getpid()}-{output.name}")
    subprocess.run([*command, "-o", str(draft)], check=True, capture_output=True, text=True)
    draft.replace(output)


def _link(link: Path, target: str) -> None:
    draft = link.with_name(f"{os.getpid()}-{link.name}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)


def build_emulator(
    folder: Path, *, headers: Sequence[Path] | None = None, compiler: str = "g++"
) -> Emulator:
    """Compiles the emulator into a subfolder of `folder`, named by all that it depends on.

    Args:
        folder: where it is kept; a second call with the same sources compiles nothing.
        headers: folders with `cuda.h` and `nvrtc.h`; by default what `find_cuda_headers` finds.
        compiler: a C++ compiler.

    Raises:
        FileNotFoundError: no CUDA headers were found.
        subprocess.CalledProcessError: a library does not compile.
    """
    headers = find_cuda_headers() if headers is None else list(headers)
    if not headers:
        raise FileNotFoundError("cuda.h and nvrtc.h: install nvidia-cuda-runtime and -nvrtc")
    major = _version_of(headers)
    digest = hashlib.sha256(repr((_HERE, headers, compiler, major)).encode())
    for source in sorted([*_HERE.glob("*.hpp"), *_HERE.glob("*.cpp"), Path(__file__)]):
        digest.update(source.name.encode() + source.read_bytes())
    version = digest.hexdigest()[:16]
    emulator = Emulator(Path(folder).resolve() / version, tuple(headers))
    emulator.folder.mkdir(parents=True, exist_ok=True)

    driver = emulator.folder / "libcuda.so.1"
    nvrtc = emulator.folder / f"libnvrtc.so.{major}"
    command = [compiler, *_FLAGS, *emulator.include_flags]
    if not driver.exists():
        sources = [str(path) for path in sorted(_HERE.glob("driver*.cpp"))]
        _compile([*command, "-Wl,-soname,libcuda.so.1", *sources, "-ldl"], driver)
    if not nvrtc.exists():
        defines = [
            f'-DANVIL_EMULATOR_FOLDER="{_HERE}"',
            f'-DANVIL_EMULATOR_VERSION="{version}"',
            f"-DANVIL_EMULATED_NVRTC_MAJOR={major}",
        ]
        _compile([*command, *defines, f"-Wl,-soname,{nvrtc.name}", str(_HERE / "nvrtc.cpp")], nvrtc)
    _link(emulator.folder / "libcuda.so", driver.name)
    _link(emulator.folder / "libnvrtc.so", nvrtc.name)
    return emulator
