# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What mmdebstrap is asked to do, and what goes into a guest."""

from __future__ import annotations

import os
import pathlib
import re

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._image.apt_sources import (
    AptEntry,
    choose_archives,
    fetching_options,
    parse_deb822,
    parse_one_line,
    render_guest_sources,
)
from ansible_collections.tandem.machines.plugins.module_utils._image.guest import early_files, late_files
from ansible_collections.tandem.machines.plugins.module_utils._image.model import BuildSource
from ansible_collections.tandem.machines.plugins.module_utils._image.recipe import (
    explain_failure,
    mmdebstrap_argv,
    packages,
)
from ansible_collections.tandem.machines.plugins.module_utils._spec.image import DISTRIBUTIONS

GOLDEN = pathlib.Path(__file__).parent / "golden"
BOOKWORM = BuildSource("debian", "bookworm", "amd64")
HOST = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
DEB822 = """\
# comment
Types: deb deb-src
URIs: http://mirror.example.org/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /etc/apt/keyrings/mirror.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example.org/debian
Suites: bookworm
Components: main
"""


def agree(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


CASES = {
    "bookworm": (BOOKWORM, ()),
    "trixie_mirror": (
        BuildSource("debian", "trixie", "arm64", mirror="https://mirror.example.org/debian", packages=("nginx",)),
        ('Acquire::http::Proxy "http://proxy:3128/";',),
    ),
    "sid": (BuildSource("debian", "sid", "amd64"), ()),
    "noble": (BuildSource("ubuntu", "noble", "amd64", keyring="/srv/keys.gpg"), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_arguments_of_mmdebstrap(case: str) -> None:
    source, options = CASES[case]
    archives = choose_archives(source, {}, ())
    argv = mmdebstrap_argv(source, archives, options, "/mnt")
    agree(f"mmdebstrap_{case}.txt", "\n".join(argv) + "\n")
    agree(f"sources_{case}.txt", render_guest_sources(source, archives))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_release_can_be_asked_for(distribution: str) -> None:
    for release in DISTRIBUTIONS[distribution].releases:
        source = BuildSource(distribution, release, "arm64")
        assert any(name.startswith("linux-image-") for name in packages(source))
        assert not [name for name in packages(source) if "{" in name]
        assert "/debian" in " ".join(mmdebstrap_argv(source, choose_archives(source, {}, ()), (), "/mnt")) or (
            distribution == "ubuntu"
        )


def test_sources_in_both_styles() -> None:
    deb822 = list(parse_deb822(DEB822))
    assert [entry.suite for entry in deb822] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert deb822[0] == AptEntry(
        "http://mirror.example.org/debian/", "bookworm", ("main", "contrib"), "/etc/apt/keyrings/mirror.gpg"
    )
    one_line = list(
        parse_one_line(
            "deb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main contrib # note\n"
            "deb-src http://m/debian bookworm main\n#deb http://n/debian bookworm main\ngarbage\n"
        )
    )
    assert one_line == [AptEntry("http://m/debian", "bookworm", ("main", "contrib"), "/k.gpg")]


def test_the_mirror_of_the_host_serves_its_own_distribution() -> None:
    entries = tuple(parse_deb822(DEB822))
    for release in ("bookworm", "trixie"):
        archives = choose_archives(BuildSource("debian", release, "amd64"), HOST, entries)
        assert archives.archive == "http://mirror.example.org/debian"
        assert archives.security == "http://mirror.example.org/debian-security"
        assert archives.keyring == "/etc/apt/keyrings/mirror.gpg"
    other = choose_archives(BuildSource("ubuntu", "noble", "amd64"), HOST, entries)
    assert other.archive == "http://archive.ubuntu.com/ubuntu"


def test_what_was_asked_for_comes_before_the_host() -> None:
    source = BuildSource("debian", "bookworm", "amd64", mirror="http://n.example.org/debian", keyring="/k.gpg")
    archives = choose_archives(source, HOST, tuple(parse_deb822(DEB822)))
    assert (archives.archive, archives.security, archives.keyring) == (
        "http://n.example.org/debian",
        "http://n.example.org/debian-security",
        "/k.gpg",
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:3142/debian", "http://localhost/debian"])
def test_a_mirror_on_the_host_is_not_written_into_guests(url: str) -> None:
    archives = choose_archives(BOOKWORM, HOST, (AptEntry(url, "bookworm", ("main",)),))
    assert archives.archive == url
    assert archives.guest_archive == "http://deb.debian.org/debian"


def test_passwords_of_a_mirror_stay_on_the_host() -> None:
    source = BuildSource("debian", "bookworm", "amd64", mirror="https://user:secret@m.example.org/debian")
    archives = choose_archives(source, {}, ())
    assert "secret" in archives.archive
    assert "secret" not in render_guest_sources(source, archives)
    assert "https://m.example.org/debian\n" in render_guest_sources(source, archives)


def test_only_how_to_fetch_is_taken_from_the_host() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://p:1/";\nAcquire::Check-Valid-Until "false";\n'
        'DPkg::Post-Invoke:: "rm -rf /";\nAcquire::https::Verify-Peer "true";\nAcquire::Retries "3";\n'
    )
    assert fetching_options(dump) == (
        'Acquire::http::Proxy "http://p:1/";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::https::Verify-Peer "true";',
        'Acquire::Retries "3";',
    )


FAILURES = {
    "package": (
        "E: Unable to locate package no-such\nE: apt-get failed",
        "has no package no-such: correct source option packages",
    ),
    "virtual package": (
        "E: Package 'mail-agent' has no installation candidate\n",
        "has no package mail-agent: correct source option packages",
    ),
    "network": (
        "E: Failed to fetch http://m/debian/dists/x/InRelease  Could not resolve 'm'\nE: Some index files failed\n",
        r"cannot fetch http://m/debian/dists/x/InRelease .Could not resolve 'm'.: check the host's network",
    ),
    "no repository": (
        "E: The repository 'http://m x InRelease' is not signed.\nE: Failed to fetch http://m/x  404  Not Found\n",
        r"cannot fetch http://m/x .404 Not Found.",
    ),
    "keys": (
        "W: GPG error: http://m x InRelease: NO_PUBKEY 12\nE: The repository 'http://m x InRelease' is not signed.\n",
        "is not signed by the keys .* set source option keyring",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_explained(case: str) -> None:
    stderr, expected = FAILURES[case]
    explained = explain_failure(stderr, BOOKWORM, "debian/12")
    assert explained is not None
    assert re.search(expected, str(explained)) and str(explained).startswith("image debian/12: ")
    assert "\n" not in str(explained)


def test_other_failures_speak_for_themselves() -> None:
    assert explain_failure("E: mmdebstrap failed to run", BOOKWORM, "debian/12") is None


def test_files_of_a_guest_are_whole() -> None:
    files = {**early_files(), **late_files("debian", "Types: deb\n")}
    for name, file in files.items():
        assert not name.startswith("/") and ".." not in name.split("/")
        assert file.target is not None or not file.text or file.text.endswith("\n")
    assert files["etc/machine-id"].text == ""
    assert files["etc/resolv.conf"].target == "../run/systemd/resolve/stub-resolv.conf"
    scripts = [file for name, file in files.items() if name.startswith("usr/lib/tandem/")]
    assert len(scripts) == 2
    assert all(script.mode == 0o755 and script.text.startswith("#!/bin/sh\n") for script in scripts)
    for name in ("grow-root", "mount-disks"):
        unit = files[f"etc/systemd/system/tandem-{name}.service"].text
        assert f"ExecStart=/usr/lib/tandem/{name}\n" in unit
        assert f"etc/systemd/system/sysinit.target.wants/tandem-{name}.service" in files
    units = [name for name in files if re.search(r"\.wants/", name)]
    assert all((files[name].target or "").startswith(("/usr/lib/systemd/", "/etc/systemd/")) for name in units)
