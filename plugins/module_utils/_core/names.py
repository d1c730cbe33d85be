# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The one name check. Every name from a playbook, an archive or a server passes it first."""

from __future__ import annotations

import re

from .errors import InvalidRequest

# Patterns are compiled at their first use: most runs need one or two of them.
# LXD's rule for instances (RFC 1123 label with a letter first); fullmatch, since '$' would let a newline pass.
_LABEL = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Kernel: IFNAMSIZ is 16 with the NUL; '/' and white space are refused there, '.' confuses sysctl paths.
_INTERFACE = r"[a-z][a-z0-9_-]{0,13}[a-z0-9]|[a-z]"
# LXD's devices have free names; ours become part of file names, where a dot separates.
_DEVICE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
# Image aliases carry a distribution and a release: debian/12.
_ALIAS = r"[a-z0-9](?:[a-z0-9._-]{0,62})(?:/[a-z0-9][a-z0-9._-]{0,62}){0,3}"
_FINGERPRINT = r"[0-9a-f]{64}"


def require_name(what: str, name: object) -> str:
    """Return name if it is 1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last; else InvalidRequest."""
    if isinstance(name, str) and re.fullmatch(_LABEL, name, re.ASCII):
        return name
    raise InvalidRequest(
        f"{what} name {_shown(name)} is not valid: use 1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last"
    )


def require_interface(what: str, name: object) -> str:
    """Return name if the kernel takes it as an interface name and it is safe in paths; else InvalidRequest."""
    if isinstance(name, str) and is_interface(name):
        return name
    raise InvalidRequest(
        f"{what} name {_shown(name)} is not valid: use 1 to 15 of a-z, 0-9, '-' and '_', a letter first"
    )


def is_interface(name: str) -> bool:
    return re.fullmatch(_INTERFACE, name, re.ASCII) is not None


def require_device(name: object) -> str:
    """Return name if it is a device name: 1 to 63 letters, digits, '-' and '_'; else InvalidRequest."""
    if isinstance(name, str) and re.fullmatch(_DEVICE, name, re.ASCII):
        return name
    raise InvalidRequest(
        f"device name {_shown(name)} is not valid: use 1 to 63 letters, digits, '-' and '_', a letter or digit first"
    )


def require_alias(name: object) -> str:
    """Return name if it is an image alias such as debian/12; else InvalidRequest."""
    if isinstance(name, str) and re.fullmatch(_ALIAS, name, re.ASCII) and ".." not in name:
        return name
    raise InvalidRequest(
        f"image name {_shown(name)} is not valid: use a-z, 0-9, '.', '_', '-' and up to three '/', such as debian/12"
    )


def is_fingerprint(name: str) -> bool:
    """Whether name is a whole image fingerprint (64 lower-case hexadecimal digits)."""
    return re.fullmatch(_FINGERPRINT, name, re.ASCII) is not None


def _shown(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."
