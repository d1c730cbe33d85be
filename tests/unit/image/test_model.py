# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Sources and records of images."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._image.model import (
    BuildSource,
    FileFormat,
    FileSource,
    Image,
    SourceStamp,
    StoredFile,
    describe_image,
    parse_record,
    parse_source,
    render_record,
)
from hypothesis import given
from hypothesis import strategies as st

WHERE = "image debian/12"
FINGERPRINT = "ab" * 32
BUILD = {"type": "build", "distribution": "debian", "release": "bookworm"}
IMAGE = Image(
    fingerprint=FINGERPRINT,
    os="Debian",
    release="bookworm",
    architecture="amd64",
    created="2026-01-02T03:04:05Z",
    source=BuildSource("debian", "bookworm", "amd64", packages=("nginx",)),
    has_root=True,
    has_disk=False,
    has_kernel=True,
    aliases=("debian/12",),
    unpacked_bytes=1000,
    unpacked_files=10,
    files={"rootfs.tar.zst": StoredFile(100, "cd" * 32)},
    properties={"description": "Debian GNU/Linux 12 (bookworm)"},
)
IMPORTED = Image(
    fingerprint=FINGERPRINT,
    os="unknown",
    release="unknown",
    architecture="arm64",
    created="2026-01-02T03:04:05Z",
    source=FileSource("/srv/x.qcow2", FileFormat.QCOW2, "arm64"),
    has_root=False,
    has_disk=True,
    has_kernel=False,
    stamp=SourceStamp(5, 6, 7),
)


@pytest.mark.parametrize("given_release", ["bookworm", "12", 12])
def test_a_release_has_one_name(given_release: object) -> None:
    source = parse_source({**BUILD, "release": given_release}, WHERE, "amd64")
    assert source == BuildSource("debian", "bookworm", "amd64")


def test_packages_are_a_set() -> None:
    wanted = parse_source({**BUILD, "packages": ["vim", "nginx", "vim"]}, WHERE, "amd64")
    assert wanted == parse_source({**BUILD, "packages": "nginx, vim"}, WHERE, "amd64")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.tar", FileFormat.TAR),
        ("x.TAR.XZ", FileFormat.TAR),
        ("x.tgz", FileFormat.TAR),
        ("x.tar.zst", FileFormat.TAR),
        ("x.squashfs", FileFormat.SQUASHFS),
        ("x.qcow2", FileFormat.QCOW2),
    ],
)
def test_the_name_of_a_file_states_its_format(name: str, expected: FileFormat) -> None:
    source = parse_source({"type": "file", "path": f"/srv/{name}"}, WHERE, "amd64")
    assert source == FileSource(f"/srv/{name}", expected, "amd64")


def test_a_stated_format_wins() -> None:
    source = parse_source({"type": "file", "path": "/srv/x.img", "format": "qcow2"}, WHERE, "amd64")
    assert source.render()["format"] == "qcow2"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "must be a mapping"),
        ([], "must be a mapping"),
        ({}, "type None is not one of build, file"),
        ({"type": "biuld"}, "type 'biuld' is not one of build, file"),
        ({"type": "build", "distribution": "debian"}, "source option release is missing"),
        ({"type": "file"}, "source option path is missing"),
        ({**BUILD, "relase": "x"}, "did you mean release"),
        ({**BUILD, "distribution": "devian"}, "not one of debian, ubuntu"),
        ({**BUILD, "release": "bokworm"}, "did you mean bookworm"),
        ({**BUILD, "release": "2"}, "known are bookworm"),
        ({**BUILD, "architecture": "i386"}, "not one of amd64, arm64"),
        ({**BUILD, "mirror": "ftp://x"}, "not an http or https URL"),
        ({**BUILD, "mirror": "file:///srv"}, "not an http or https URL"),
        ({**BUILD, "mirror": "http://x y"}, "not an http or https URL"),
        ({**BUILD, "mirror": "http://x\ndeb http://evil"}, "mirror"),
        ({**BUILD, "keyring": "keys.gpg"}, "not an absolute path"),
        ({**BUILD, "keyring": "/x] http://evil"}, "characters that apt cannot take"),
        ({**BUILD, "packages": ["-oDpkg::x"]}, "is not a package name"),
        ({**BUILD, "packages": ["~i"]}, "is not a package name"),
        ({**BUILD, "packages": ["./evil.deb"]}, "is not a package name"),
        ({**BUILD, "packages": ["a,b"]}, "is not a package name"),
        ({**BUILD, "packages": 5}, "must be a list"),
        ({**BUILD, "packages": [5]}, "is not a package name"),
        ({"type": "file", "path": "x.tar"}, "not an absolute path"),
        ({"type": "file", "path": "/srv/x.img"}, "set source option format to tar, squashfs, qcow2"),
        ({"type": "file", "path": "/srv/x.tar", "format": "raw"}, "not one of tar, squashfs, qcow2"),
    ],
)
def test_a_wrong_source_is_explained(source: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        parse_source(source, WHERE, "amd64")
    assert str(error.value).startswith(WHERE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("image", [IMAGE, IMPORTED], ids=["built", "imported"])
def test_a_record_gives_the_image_back(image: Image) -> None:
    record = json.loads(json.dumps(render_record(image)))
    assert parse_record(record, image.aliases) == image


@given(st.data())
def test_a_damaged_record_is_a_conflict(data: st.DataObject) -> None:
    """Every value of the record replaced by every kind of wrong one: a sentence, never another exception."""
    record = copy.deepcopy(render_record(IMAGE))
    paths = list(_paths(record))
    *parents, leaf = data.draw(st.sampled_from(paths))
    place: Any = record
    for key in parents:
        place = place[key]
    place[leaf] = data.draw(st.sampled_from([None, [], {}, "x", -1, [None]]))
    try:
        parse_record(record)
    except Conflict as error:
        assert "\n" not in str(error)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _paths(value[key], (*path, key))


def test_a_record_of_the_future_is_refused() -> None:
    with pytest.raises(Conflict, match="another version"):
        parse_record({**render_record(IMAGE), "schema": 2})


def test_types_follow_from_what_the_image_has() -> None:
    assert describe_image(IMAGE)["types"] == ["container", "virtual-machine"]
    assert describe_image(IMPORTED)["types"] == ["virtual-machine"]
