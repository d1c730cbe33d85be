# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""apt's sources: parse the host's, choose archives for a build, render a guest's. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from .._spec.image import DISTRIBUTIONS, Distribution
from .model import BuildSource

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<url>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")
# What of the host's apt configuration concerns fetching: proxies, and archives that are frozen in time.
_FETCHING = re.compile(
    r'Acquire::(?:https?::[\w:./-]+|ForceIPv4|ForceIPv6|Retries|Check-Valid-Until|Check-Date) "[^"]*";', re.ASCII
)
KEYRINGS = "/usr/share/keyrings"


@dataclass(frozen=True)
class AptEntry:
    """One archive URL and suite of a sources file; keyring is Signed-By if that is a path."""

    url: str
    suite: str
    components: tuple[str, ...]
    keyring: str | None = None


def parse_one_line(text: str) -> Iterator[AptEntry]:
    """Entries of a sources.list(5) in one-line style."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match is not None:
            options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
            yield AptEntry(
                match["url"], match["suite"], tuple(match["components"].split()), _path(options.get("signed-by"))
            )


def parse_deb822(text: str) -> Iterator[AptEntry]:
    """Entries of a sources.list(5) in deb822 style; disabled stanzas are left out."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        for url in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                yield AptEntry(url, suite, components, _path(fields.get("signed-by")))


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
            continue
        name, _unused, value = line.partition(":")
        name = name.strip().lower()
        fields[name] = value.strip()
    return fields


def _path(signed_by: str | None) -> str | None:
    """Signed-By also takes fingerprints and whole keys."""
    return signed_by if signed_by and signed_by.startswith("/") and " " not in signed_by else None


@dataclass(frozen=True)
class Archives:
    """Where a build fetches packages; security is None for what has no such suite. guest_* go into the image."""

    archive: str
    security: str | None
    keyring: str
    guest_archive: str
    guest_security: str | None


def choose_archives(source: BuildSource, host_release: Mapping[str, str], entries: Iterable[AptEntry]) -> Archives:
    """The mirror that was asked for, else the host's own for the same distribution, else the official one.

    host_release: the host's os-release(5). Debian keeps security updates in an archive of its own, which mirrors
    have beside the main one as NAME-security.
    """
    distribution = DISTRIBUTIONS[source.distribution]
    official = _for_architecture(distribution.archive, source.architecture)
    official_security = _for_architecture(distribution.security, source.architecture)
    keyring = source.keyring or f"{KEYRINGS}/{distribution.keyring}"
    if source.mirror is not None:
        security = f"{source.mirror}-security" if source.distribution == "debian" else source.mirror
        return _archives(source, distribution, source.mirror, security, keyring)
    own = _own_archives(source, host_release, tuple(entries))
    if own is None:
        return _archives(source, distribution, official, official_security, keyring)
    archive, own_security, own_keyring = own
    signed_by = source.keyring or own_keyring or keyring
    fetched = _archives(source, distribution, archive, own_security or official_security, signed_by)
    if _is_reachable_from_guests(archive):
        return fetched
    written = _archives(source, distribution, official, official_security, keyring)
    return Archives(fetched.archive, fetched.security, fetched.keyring, written.guest_archive, written.guest_security)


def _archives(source: BuildSource, distribution: Distribution, archive: str, security: str, keyring: str) -> Archives:
    has_updates = distribution.releases[source.release].has_updates
    return Archives(
        archive=archive,
        security=security if has_updates else None,
        keyring=keyring,
        guest_archive=_without_password(archive),
        guest_security=_without_password(security) if has_updates else None,
    )


def _for_architecture(urls: Mapping[str, str], architecture: str) -> str:
    return urls.get(architecture, urls["*"])


def _own_archives(
    source: BuildSource, host_release: Mapping[str, str], entries: tuple[AptEntry, ...]
) -> tuple[str, str | None, str | None] | None:
    codename = host_release.get("VERSION_CODENAME")
    if host_release.get("ID") != source.distribution or not codename:
        return None
    usable = [entry for entry in entries if "main" in entry.components and _is_fetchable(entry.url)]
    archive = next((entry for entry in usable if entry.suite == codename), None)
    security = next((entry for entry in usable if entry.suite == f"{codename}-security"), None)
    if archive is None:
        return None
    return archive.url.rstrip("/"), None if security is None else security.url.rstrip("/"), archive.keyring


def _is_fetchable(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _is_reachable_from_guests(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host not in ("localhost", "::1") and not host.startswith("127.")


def _without_password(url: str) -> str:
    """Guests are given to others: no user name or password of the builder goes into them."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def source_lines(source: BuildSource, archives: Archives) -> tuple[str, ...]:
    """One-line entries for mmdebstrap; without signed-by it would take any keyring of the host that fits."""
    components = " ".join(DISTRIBUTIONS[source.distribution].components)
    suites = [(archives.archive, source.release)]
    if archives.security is not None:
        suites += [(archives.archive, f"{source.release}-updates"), (archives.security, f"{source.release}-security")]
    return tuple(f"deb [signed-by={archives.keyring}] {url} {suite} {components}" for url, suite in suites)


def render_guest_sources(source: BuildSource, archives: Archives) -> str:
    """The guest's sources file in deb822 style."""
    distribution = DISTRIBUTIONS[source.distribution]
    components = " ".join(distribution.components)
    suites = source.release if archives.security is None else f"{source.release} {source.release}-updates"
    stanzas = [(archives.guest_archive, suites)]
    if archives.guest_security is not None:
        stanzas.append((archives.guest_security, f"{source.release}-security"))
    signed_by = f"{KEYRINGS}/{distribution.keyring}"
    return "\n".join(
        f"Types: deb\nURIs: {url}\nSuites: {names}\nComponents: {components}\nSigned-By: {signed_by}\n"
        for url, names in stanzas
    )


def fetching_options(apt_config: str) -> tuple[str, ...]:
    """Lines of `apt-config dump` that a build on this host needs too: proxies and the like."""
    return tuple(line for line in apt_config.splitlines() if _FETCHING.fullmatch(line))
