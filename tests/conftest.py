"""What every test may ask for: compilers, golden files, a private cache.

Tests state what they need by a marker (`compile`, `gpu`, `slow`, `packaging`) and by the fixtures
below. Something that is missing skips a test on a developer's machine and fails it in CI.
"""

import os
import shutil
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.requirements import missing, require_program

# What the test extra installs (cmake, ninja) is found without activating the environment.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
# JAX on the CPU is the reference, also where there is a GPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

pytest.register_assert_rewrite("tests.support")

ROOT = Path(__file__).resolve().parent.parent
CXX_NAMES = ("g++", "clang++")
EIGEN_FOLDERS = ("/usr/include/eigen3", "/usr/local/include/eigen3", "/opt/homebrew/include/eigen3")

_CACHE_VARIABLE = "ANVIL_JAX_CACHE_DIR"
_own_cache = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what is generated now over the files in tests/golden, then read the diff",
    )


def pytest_configure(config: pytest.Config) -> None:
    """One empty cache of compiled libraries per session, shared by its worker processes."""
    if not hasattr(config, "workerinput"):
        config.stash[_own_cache] = tempfile.mkdtemp(prefix="anvil_jax-tests-")
        os.environ[_CACHE_VARIABLE] = config.stash[_own_cache]


def pytest_unconfigure(config: pytest.Config) -> None:
    directory = config.stash.get(_own_cache, None)
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def compilers() -> tuple[str, ...]:
    """Paths of the C++ compilers found, at least one; in CI both g++ and clang++."""
    found = {name: shutil.which(name) for name in CXX_NAMES}
    absent = [name for name, path in found.items() if path is None]
    if len(absent) == len(found) or (absent and os.environ.get("CI")):
        missing(" and ".join(absent))
    return tuple(path for path in found.values() if path is not None)


@pytest.fixture(scope="session", params=CXX_NAMES)
def compiler(request: pytest.FixtureRequest) -> str:
    """Path of one C++ compiler; the test runs once under each."""
    return require_program(request.param)


@pytest.fixture(scope="session")
def cmake() -> str:
    """Path of cmake."""
    return require_program("cmake")


@pytest.fixture(scope="session")
def eigen() -> Path:
    """The include folder of Eigen 3."""
    found = (Path(f) for f in EIGEN_FOLDERS if (Path(f) / "Eigen" / "Core").is_file())
    return next(found, None) or missing("Eigen 3 (libeigen3-dev)")


@pytest.fixture
def compare_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`compare_golden(name, text)`: the text equals tests/golden/<name>, or becomes it."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
            return
        hint = f"pytest --update-golden -k {request.node.name.partition('[')[0]}"
        assert path.is_file(), f"{path.relative_to(ROOT)} is missing; write it with: {hint}"
        wanted = path.read_bytes().decode("utf-8")
        assert text == wanted, f"{path.relative_to(ROOT)} differs; if that is wanted: {hint}"

    return compare
