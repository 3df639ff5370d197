"""Rules about the text of the repository's own files."""

import re
from pathlib import Path

import pytest

from tests.policy.tracked import tracked_files

MAX_LINES = 500
SOURCE_SUFFIXES = {".py", ".j2", ".hpp", ".cpp", ".cu", ".h"}

# Joined here, so that this file does not hold what it forbids.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.*-])/(?:root|work|home|Users|tmp|opt/pypi|opt/wheels)/[\w.]")
PRIVATE_JAX = ".".join(("jax", "_src"))


def _text(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data else data.decode("utf-8")


def _lines_with(root: Path, matches) -> list[str]:
    found = []
    for path in tracked_files(root):
        text = _text(path)
        if text is None:
            continue
        found += [
            f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if matches(line)
        ]
    return found


def test_no_machine_paths(root):
    assert not _lines_with(root, MACHINE_PATH.search)


def test_no_package_index_hosts(root):
    assert not _lines_with(root, lambda line: any(host in line for host in HOSTS))


def test_no_private_jax(root):
    # pyproject.toml bans it by name.
    found = _lines_with(root, lambda line: PRIVATE_JAX in line)
    assert [line for line in found if not line.startswith("pyproject.toml:")] == []


def test_modules_are_short(root):
    sizes = {
        str(path.relative_to(root)): len(path.read_text(encoding="utf-8").splitlines())
        for path in tracked_files(root)
        if path.suffix in SOURCE_SUFFIXES and "golden" not in path.parts
    }
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}


@pytest.mark.parametrize("link", ["lowering", "templates"])
def test_rooms_at_the_root_are_linked_into_the_package(root, link):
    path = root / "anvil_jax" / link
    assert path.is_symlink()
    assert str(path.readlink()) == f"../{link}"
