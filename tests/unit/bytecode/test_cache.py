# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Compiled code is taken from the cache only where nobody else could have put it, and only for the same sources."""

from __future__ import annotations

import importlib
import marshal
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._bytecode import cache

SOURCES = {"shipped/__init__.py": "", "shipped/inner.py": "VALUE = 1\n", "sitecustomize.py": "import sys\n"}


def archive_of(path: Path, sources: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in sources.items():
            archive.writestr(name, text)
    return str(path)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for the cache that counts as root's, whoever runs the tests."""
    real = os.lstat

    def as_root(path: str) -> os.stat_result:
        found = list(real(path))
        found[4] = 0
        return os.stat_result(found)

    monkeypatch.setattr(cache.os, "lstat", as_root)
    return tmp_path / "code"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test changes of Python's imports is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    monkeypatch.setattr(cache.atexit, "register", lambda function: function)
    yield
    forget()
    sys.path_importer_cache.clear()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "shipped"]:
        del sys.modules[name]


def imported_value(archive: str, code: cache.CodeCache) -> int:
    """shipped.inner.VALUE, imported anew."""
    forget()
    sys.path.insert(0, archive)
    sys.path_importer_cache.clear()
    cache.install(archive, code)
    value: int = importlib.import_module("shipped.inner").VALUE
    return value


@pytest.mark.usefixtures("imports")
def test_code_is_compiled_once(tmp_path: Path, directory: Path) -> None:
    archive = archive_of(tmp_path / "payload.zip", SOURCES)
    key = cache.archive_key(archive)
    first = cache.CodeCache(str(directory), key)
    assert first.find("shipped.inner") is None
    assert imported_value(archive, first) == 1
    first.keep()
    assert directory.stat().st_mode & 0o777 == 0o700
    second = cache.CodeCache(str(directory), key)
    # Code that the sources do not have shows where it came from.
    second.add("shipped.inner", compile("VALUE = 2", "inner.py", "exec"))
    second.keep()
    assert imported_value(archive, cache.CodeCache(str(directory), key)) == 2


@pytest.mark.usefixtures("imports")
def test_sources_stay_readable(tmp_path: Path, directory: Path) -> None:
    archive = archive_of(tmp_path / "payload.zip", SOURCES)
    imported_value(archive, cache.CodeCache(str(directory), "key"))
    assert sys.modules["shipped"].__file__ == f"{archive}/shipped/__init__.py"
    assert sys.modules["shipped.inner"].__file__ == f"{archive}/shipped/inner.py"
    loader = sys.modules["shipped.inner"].__loader__
    assert loader is not None and loader.get_source("shipped.inner") == SOURCES["shipped/inner.py"]  # type: ignore[attr-defined]


def test_the_key_follows_the_sources_alone(tmp_path: Path) -> None:
    keys = [
        cache.archive_key(archive_of(tmp_path / "1.zip", SOURCES)),
        cache.archive_key(archive_of(tmp_path / "2.zip", {**SOURCES, "sitecustomize.py": "import os\n"})),
        cache.archive_key(archive_of(tmp_path / "3.zip", {**SOURCES, "shipped/inner.py": "VALUE = 3\n"})),
        cache.archive_key(archive_of(tmp_path / "4.zip", {**SOURCES, "shipped/outer.py": ""})),
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert keys[0].startswith(f"{sys.implementation.cache_tag}-")


@pytest.mark.parametrize("damage", [b"", b"xx", b"\0" * 40, "truncated", "other type"])
def test_a_damaged_file_counts_as_none(directory: Path, damage: bytes | str) -> None:
    whole = cache.CodeCache(str(directory), "key")
    whole.add("a", compile("1", "a", "exec"))
    whole.keep()
    path = directory / "key"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "other type":
        content = marshal.dumps([1])
        path.write_bytes(cache._checksum(content) + content)
    else:
        path.write_bytes(damage)  # type: ignore[arg-type]
    assert cache.CodeCache(str(directory), "key").find("a") is None


@pytest.mark.parametrize("kind", ["writable by others", "a link"])
def test_a_directory_of_others_is_neither_read_nor_written(directory: Path, kind: str) -> None:
    whole = cache.CodeCache(str(directory), "key")
    whole.add("a", compile("1", "a", "exec"))
    whole.keep()
    if kind == "a link":
        directory.rename(directory.with_name("elsewhere"))
        directory.symlink_to("elsewhere")
    else:
        directory.chmod(0o777)
    found = cache.CodeCache(str(directory), "key")
    assert found.find("a") is None
    found.add("b", compile("2", "b", "exec"))
    before = (directory / "key").read_bytes()
    found.keep()
    assert (directory / "key").read_bytes() == before


def test_a_directory_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(os.lstat(tmp_path))
    found[0], found[4] = found[0] & ~0o022, 1000
    monkeypatch.setattr(cache.os, "lstat", lambda path: os.stat_result(found))
    assert not cache.is_trusted(str(tmp_path))


def test_only_so_many_files_are_kept(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_KEPT_FILES", 3)
    for number in range(6):
        one = cache.CodeCache(str(directory), f"key{number}")
        one.add("a", compile("1", "a", "exec"))
        one.keep()
        os.utime(directory / f"key{number}", (number + 1, number + 1))
    assert {path.name for path in directory.iterdir()} >= {"key4", "key5"}
    assert len(list(directory.iterdir())) == 3
