# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Run ansible-test sanity: on a copy, since it neither follows links nor works outside ansible_collections.

Arguments go to ansible-test: `.venv/bin/python tests/sanity/run.py --test validate-modules`.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

CHECKOUT = Path(__file__).resolve().parents[2]
COPY = CHECKOUT / ".build/sanity/ansible_collections/tandem/machines"
BOOTSTRAP = Path(__file__).with_name("bootstrap_pip.py")


def main() -> int:
    copy_checkout()
    provide_bootstrap()
    command = [str(Path(sys.executable).with_name("ansible-test")), "sanity", "--color", "no", *sys.argv[1:]]
    environment = {**os.environ, "PATH": os.pathsep.join(search_path())}
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


def copy_checkout() -> None:
    """The files of the checkout, those not committed yet included, ignored ones not."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    shutil.rmtree(COPY, ignore_errors=True)
    for name in filter(None, names):
        source, target = CHECKOUT / name, COPY / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # Else ansible-test asks the checkout's own repository, in which all of .build is ignored.
    subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)


def provide_bootstrap() -> None:
    """ansible-test downloads get-pip.py unless its cache has it; ours needs nothing but the package index."""
    from ansible_test._internal.constants import SUPPORTED_PYTHON_VERSIONS
    from ansible_test._internal.python_requirements import get_venv_packages

    cache = Path("~/.ansible/test/cache").expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    for version in SUPPORTED_PYTHON_VERSIONS:
        pip_version = get_venv_packages(SimpleNamespace(version=version))["pip"]
        target = cache / f"get_pip_{pip_version.replace('.', '_')}.py"
        if not target.exists():
            shutil.copyfile(BOOTSTRAP, target)


def search_path() -> Iterator[str]:
    """Where ansible-test looks for Pythons: ours, the distribution's, and whole ones of pyenv.

    pyenv's shims are left out: they are there for versions that are not active too, and then only fail.
    """
    yield os.path.dirname(sys.executable)
    if "PYENV_ROOT" in os.environ:
        yield from glob.glob(os.path.join(glob.escape(os.environ["PYENV_ROOT"]), "versions/3.*/bin"))
    yield from ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


if __name__ == "__main__":
    sys.exit(main())
