"""The per-user cache of compiled libraries.

An entry is three files with one stem, ``<function>-<key>``: ``.cpp`` (to read), ``.so`` and
``.sha256``, the digest of the ``.so`` in the form of sha256sum(1). The key covers everything the
library depends on, so entries never become stale and never need an expiry date. A library is
published by an atomic rename and believed only when its digest agrees: opening a truncated one
could kill the process. A file lock lets one of several processes compile while the others wait;
where there are no file locks they compile the same bytes twice and nothing breaks.

Functions for CUDA keep machine code beside it, ``<function>-<key>-<device>.code``.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anvil_jax.errors import ToolchainError
from anvil_jax.jit.toolchain import (
    Compiler,
    compile_flags,
    compile_shared_library,
    find_compiler,
)
from anvil_jax.progress import progress

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

DIRECTORY_VARIABLE = "ANVIL_JAX_CACHE_DIR"
FAILED = "failed"
_KEY_DIGITS = 32
_NAME_LENGTH = 100  # file names end at 255 bytes
_ENTRY = re.compile(rf".*-[0-9a-f]{{{_KEY_DIGITS}}}(-\w+)?\.(so|cpp|sha256|lock|code)")
_BUILD_PREFIX = "build-"
_LONGEST_BUILD_SECONDS = 6 * 3600
# What of /proc/cpuinfo decides about -march=native; frequencies and the like change all the time.
_CPU_FIELDS = {"model name", "flags", "Features", "CPU implementer", "CPU part", "isa"}


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What the cache holds.

    Attributes:
        directory: where it is.
        libraries: number of compiled libraries.
        failed: number of kept sources that did not compile.
        nbytes: size of all its files.
    """

    directory: Path
    libraries: int
    failed: int
    nbytes: int


def cache_directory() -> Path:
    """The cache directory of this user, made on first use with mode 0700.

    ANVIL_JAX_CACHE_DIR, else ``~/Library/Caches/anvil_jax`` on macOS, else ``anvil_jax`` under
    XDG_CACHE_HOME or ``~/.cache``.

    Raises:
        ToolchainError: it cannot be made or written, or somebody else could put code into it.
    """
    directory = _configured_directory()
    advice = f"Set {DIRECTORY_VARIABLE} to a directory of your own."
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise ToolchainError(
            f"the cache directory {directory} cannot be used: {error}. {advice}"
        ) from error
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise ToolchainError(
            f"the cache directory {directory} belongs to another user (uid {status.st_uid}); "
            f"libraries from it would run with your rights. {advice}"
        )
    if status.st_mode & 0o022:
        raise ToolchainError(
            f"the cache directory {directory} can be written by other users, whose libraries "
            f"would run with your rights. Run: chmod 700 {directory}\n{advice}"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ToolchainError(f"the cache directory {directory} is not writable. {advice}")
    return directory


def _configured_directory() -> Path:
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/anvil_jax").expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "anvil_jax"


def cached_library(
    name: str,
    source: str,
    abi: int,
    rebuild: bool = False,
    *,
    flags: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
) -> Path:
    """The shared library of `source`, compiled now unless it was before.

    Args:
        name: of the function, for the file name and for messages.
        source: complete C++ text.
        abi: version of what the library exports, part of the key.
        rebuild: compile even if there is an entry that looks sound.
        flags: of the compiler, before the source, beside those that every library gets.
        arguments: of the compiler, behind the source: libraries and what they need. Files among
            them count with the time of their last change.

    Raises:
        ToolchainError: no compiler, a failed compilation or an unusable cache directory.
    """
    compiler = find_compiler()
    flags = (*compile_flags(compiler), *flags)
    directory = cache_directory()
    stem = f"{name[:_NAME_LENGTH]}-{_key(source, compiler, flags, abi, arguments)}"
    library = directory / f"{stem}.so"
    if not rebuild and _is_sound(library):
        return library
    with _locked(directory / f"{stem}.lock", name):
        if rebuild or not _is_sound(library):
            _build(directory, name, stem, source, compiler, flags, arguments)
    return library


def cache_info() -> CacheInfo:
    """Size and contents of the cache; see `cache_directory` for what it raises."""
    directory = cache_directory()
    names = [path.name for path in _own_files(directory)]
    failed = list((directory / FAILED).glob("*.cpp"))
    nbytes = 0
    for path in (*_own_files(directory), *failed):
        with suppress(FileNotFoundError):  # another process is clearing it
            nbytes += path.stat().st_size
    libraries = sum(name.endswith(".so") for name in names)
    return CacheInfo(directory, libraries, len(failed), nbytes)


def clear_cache() -> CacheInfo:
    """Delete what this package has put into the cache, nothing else; returns what was there.

    Libraries that a running process has open stay usable for it.
    """
    before = cache_info()
    for path in _own_files(before.directory):
        path.unlink(missing_ok=True)
    shutil.rmtree(before.directory / FAILED, ignore_errors=True)
    for path in before.directory.glob(f"{_BUILD_PREFIX}*"):
        if _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
    return before


def _is_abandoned(build: Path) -> bool:
    """Whether a build directory is so old that its process must have been killed."""
    try:
        return time.time() - build.stat().st_mtime > _LONGEST_BUILD_SECONDS
    except FileNotFoundError:
        return False


def _own_files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if _ENTRY.fullmatch(path.name)]


def _key(
    source: str, compiler: Compiler, flags: tuple[str, ...], abi: int, arguments: tuple[str, ...]
) -> str:
    mtime = os.stat(compiler.path).st_mtime_ns
    facts = (source, compiler.command, compiler.version, mtime, flags, _machine(), abi)
    if arguments:
        files = [word for word in arguments if os.path.isfile(word)]
        facts += (arguments, tuple(os.stat(file).st_mtime_ns for file in files))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:_KEY_DIGITS]


@cache
def _machine() -> str:
    """What decides which instructions ``-march=native`` may use."""
    system = (platform.system(), platform.machine(), platform.libc_ver())
    return repr((system, _linux_processor() or _macos_processor() or platform.processor()))


def _linux_processor() -> str:
    """The relevant lines of the first processor in /proc/cpuinfo, empty elsewhere."""
    lines = []
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
        for line in cpuinfo:
            if not line.strip() and lines:
                break
            if line.partition(":")[0].strip() in _CPU_FIELDS:
                lines.append(line.strip())
    return "\n".join(lines)


def _macos_processor() -> str:
    if sys.platform != "darwin":
        return ""
    query = ["sysctl", "-n", "machdep.cpu.brand_string", "hw.cpufamily"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _digest_path(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _is_sound(library: Path) -> bool:
    """Whether the library is there, complete and unchanged since it was compiled."""
    try:
        expected = _digest_path(library).read_text().split()[:1]
        return expected == [hashlib.sha256(library.read_bytes()).hexdigest()]
    except (OSError, UnicodeDecodeError):
        return False


def _build(
    directory: Path,
    name: str,
    stem: str,
    source: str,
    compiler: Compiler,
    flags: tuple[str, ...],
    arguments: tuple[str, ...],
) -> None:
    """Compile in a directory of our own beside the entry, then move the results into place."""
    failed = directory / FAILED
    failed.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_BUILD_PREFIX, dir=directory) as build:
        text, built = Path(build, f"{name[:_NAME_LENGTH]}.cpp"), Path(build, f"{stem}.so")
        text.write_text(source, encoding="utf-8")
        compile_shared_library(
            text, built, compiler, flags, failed / f"{stem}.cpp", arguments=arguments
        )
        digest = _digest_path(built)
        digest.write_text(f"{hashlib.sha256(built.read_bytes()).hexdigest()}  {built.name}\n")
        os.replace(text, directory / f"{stem}.cpp")
        os.replace(built, directory / built.name)
        os.replace(digest, directory / digest.name)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`, across processes and threads, and remove it afterwards.

    Without file locks (no fcntl, some network file systems) the body runs unlocked.
    """
    with progress(f"waiting for another process that compiles {name}"):
        descriptor = _acquire(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    if fcntl is None:
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The previous owner removed the file while we waited: our lock is on a file nobody
            # else will open, so take a new one.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)
