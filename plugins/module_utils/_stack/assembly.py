# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A stack's document put together: which objects need which, and what a document cannot say. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .._core.names import is_fingerprint
from .._core.options import OptionTable

# Noun and name of an object.
Key = tuple[str, str]
Options = Mapping[str, Any]

# Options of devices that name an object, with its noun. Networks are joined by their bridge, too.
_DEVICE_REFERENCES = {"pool": "storage_pool", "network": "network", "parent": "network"}


def references(options: Options) -> Iterator[Key]:
    """The objects that an object's options name. Some may not be ours, such as a bridge of the host."""
    for profile in options.get("profiles", ()):
        yield "profile", profile
    if "image" in options:
        yield "image", options["image"]
    for device in options.get("devices", {}).values():
        for option, noun in _DEVICE_REFERENCES.items():
            if option in device:
                yield noun, device[option]


def collect(start: Iterable[Key], describe: Callable[[Key], Options | None]) -> dict[Key, Options]:
    """The options of the objects to start with and of all that they need. describe is asked once for each, and
    gives None for what is no object of ours or cannot be described."""
    found: dict[Key, Options] = {}
    waiting = list(dict.fromkeys(start))
    known = set(waiting)
    for key in waiting:
        options = describe(key)
        if options is None:
            continue
        # The name in the options: an image may have been asked for by another of its names.
        found[key[0], options["name"]] = options
        needed = [reference for reference in dict.fromkeys(references(options)) if reference not in known]
        known.update(needed)
        waiting += needed
    return found


def compose(found: Mapping[Key, Options], plurals: Mapping[str, str]) -> dict[str, list[Options]]:
    """The document: a list for each noun, in the order of the plurals by noun, objects sorted by name."""
    return {plural: [found[key] for key in sorted(found) if key[0] == noun] for noun, plural in plurals.items()}


def leave_out_secrets(options: Options, table: OptionTable | None) -> tuple[Options, tuple[str, ...]]:
    """The options without secret ones, and the keys of those."""
    config = options.get("config", {})
    rows = {key: table.find(key) if table is not None else None for key in config}
    secrets = tuple(key for key, row in rows.items() if row is not None and row.secret)
    if not secrets:
        return options, ()
    public = {key: value for key, value in config.items() if key not in secrets}
    kept = {key: public if key == "config" else value for key, value in options.items()}
    if not public:
        del kept["config"]
    return kept, secrets


def find_gaps(noun: str, options: Options) -> Iterator[str]:
    """What keeps the object from being made anew elsewhere by its options, as the end of a sentence about it."""
    if noun == "image" and "source" not in options:
        yield "cannot be made anew from this document: the file that it was made from has changed"
    if noun == "instance":
        image = options.get("image")
        if image is None:
            yield "cannot be created anew from this document: its image is gone"
        elif is_fingerprint(image):
            yield "names its image by fingerprint: only a host that has this very image can create it anew"
