"""The emulated CUDA device, for programs and for calls from Python."""

import ctypes
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.requirements import require_cuda, require_program
from tests.support.cuda.emulator import Emulator, build_emulator


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a folder that one process at a time works in."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    """The two libraries; built once on a machine."""
    require_program("g++")
    toolkit = require_cuda()
    folder = Path(tempfile.gettempdir()) / f"anvil_jax-emulator-{os.getuid()}"
    with locked(folder):
        return build_emulator(folder, toolkit)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what one worker process makes for all."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@dataclass(frozen=True, slots=True)
class InProcess:
    """The emulated device that functions called from Python find."""

    driver: ctypes.CDLL
    monkeypatch: pytest.MonkeyPatch

    def live(self) -> dict[str, int]:
        """What the driver was asked for and has not got back."""
        kinds = ("allocations", "modules", "streams", "events", "graphs", "contexts")
        return {kind: getattr(self.driver, f"anvil_emulated_live_{kind}")() for kind in kinds}

    def allocations(self) -> int:
        """Live pieces of memory of the device."""
        return self.live()["allocations"]

    def set(self, **variables: str) -> None:
        """Sets ANVIL_EMULATED_<name>."""
        for name, value in variables.items():
            self.monkeypatch.setenv(f"ANVIL_EMULATED_{name}", value)

    def fail_next(self, function: str, code: int = 2) -> None:
        """Makes the next call of a function of the driver return `code`."""
        calls = self.driver.anvil_emulated_calls(function.encode())
        self.set(FAIL=f"{function}:{calls + 1}:{code}")


@pytest.fixture
def device(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """An emulated device in this process; what a test sets is undone after it."""
    for name in [name for name in os.environ if name.startswith("ANVIL_EMULATED_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANVIL_EMULATED_CACHE", str(emulator.folder / "modules"))
    monkeypatch.setenv("ANVIL_JAX_CUDA_ROOT", str(emulator.folder))
    driver = ctypes.CDLL(str(emulator.folder / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
    return InProcess(driver, monkeypatch)
