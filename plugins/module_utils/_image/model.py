# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Images, their sources and their JSON record. Pure: no I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Union

from .._core.errors import Conflict, InvalidRequest
from .._core.names import is_fingerprint
from .._spec.image import DISTRIBUTIONS, SOURCES
from .architecture import ARCHITECTURES

SCHEMA = 1

ROOT_FILE = "rootfs.tar.zst"
# A virtual machine of an image that has this file mounts its disks by itself.
MOUNT_DISKS = "usr/lib/tandem/mount-disks"

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}", re.ASCII)
_KEYRING = re.compile(r"/[A-Za-z0-9._/+-]{1,500}", re.ASCII)
_MIRROR = re.compile(r"https?://[\x21-\x7e]{1,500}", re.ASCII)


class FileFormat(str, Enum):
    """What a foreign file holds; stated by the user or by the file's name, never probed."""

    TAR = "tar"
    SQUASHFS = "squashfs"
    QCOW2 = "qcow2"


# The longest ending first; a compression is part of the statement.
_ENDINGS: Mapping[str, FileFormat] = {
    ".tar": FileFormat.TAR,
    ".tar.gz": FileFormat.TAR,
    ".tgz": FileFormat.TAR,
    ".tar.xz": FileFormat.TAR,
    ".txz": FileFormat.TAR,
    ".tar.bz2": FileFormat.TAR,
    ".tar.zst": FileFormat.TAR,
    ".squashfs": FileFormat.SQUASHFS,
    ".qcow2": FileFormat.QCOW2,
}


@dataclass(frozen=True)
class BuildSource:
    """A release to build. release is a code name; packages are sorted; None means: decided when it is built."""

    distribution: str
    release: str
    architecture: str
    mirror: str | None = None
    keyring: str | None = None
    packages: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        return "build"

    def render(self) -> dict[str, Any]:
        rendered: dict[str, Any] = {
            "type": self.type,
            "distribution": self.distribution,
            "release": self.release,
            "architecture": self.architecture,
        }
        if self.mirror is not None:
            rendered["mirror"] = self.mirror
        if self.keyring is not None:
            rendered["keyring"] = self.keyring
        if self.packages:
            rendered["packages"] = list(self.packages)
        return rendered


@dataclass(frozen=True)
class FileSource:
    """A file that somebody else made."""

    path: str
    format: FileFormat
    architecture: str

    @property
    def type(self) -> str:
        return "file"

    def render(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "path": self.path,
            "format": self.format.value,
            "architecture": self.architecture,
        }


Source = Union[BuildSource, FileSource]


def parse_source(given: object, where: str, host_architecture: str) -> Source:
    """A source from a task or a record; InvalidRequest opens with where, such as 'image debian/12'."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{where}: source must be a mapping with a type (build or file)")
    options = {str(key): value for key, value in given.items() if value is not None}
    kind = options.pop("type", None)
    if kind not in SOURCES:
        raise InvalidRequest(f"{where}: source option type {kind!a} is not one of {', '.join(SOURCES)}")
    packages = options.pop("packages", [])
    config = SOURCES[kind].parse(options, where)
    for option in SOURCES[kind]:
        if option.required and config.get(option.key) is None:
            raise InvalidRequest(f"{where}: source option {option.key} is missing: {option.doc}")
    config.setdefault("architecture", host_architecture)
    if kind == "file":
        return FileSource(config["path"], _file_format(config, where), config["architecture"])
    return BuildSource(
        distribution=config["distribution"],
        release=_parse_release(config["distribution"], config["release"], where),
        architecture=config["architecture"],
        mirror=_parse_mirror(config.get("mirror"), where),
        keyring=_parse_keyring(config.get("keyring"), where),
        packages=_parse_packages(packages, where),
    )


def _parse_release(distribution: str, text: str, where: str) -> str:
    releases = DISTRIBUTIONS[distribution].releases
    names = {release.version: name for name, release in releases.items()}
    name = names.get(text, text)
    if name in releases:
        return name
    near = difflib.get_close_matches(text, releases, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(releases)}"
    raise InvalidRequest(f"{where}: source option release {text!a} is no known release of {distribution}: {remedy}")


def _parse_mirror(url: str | None, where: str) -> str | None:
    if url is None or _MIRROR.fullmatch(url):
        return url.rstrip("/") if url else None
    raise InvalidRequest(f"{where}: source option mirror {url!a} is not an http or https URL")


def _parse_keyring(path: str | None, where: str) -> str | None:
    """apt's sources have no way to quote what ends an option."""
    if path is None or _KEYRING.fullmatch(path):
        return path
    raise InvalidRequest(
        f"{where}: source option keyring {path!a} has characters that apt cannot take: use letters, digits and ._/+-"
    )


def _parse_packages(given: object, where: str) -> tuple[str, ...]:
    """A list, or one line of names separated by commas."""
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",") if name.strip()]
    if not isinstance(given, Sequence):
        raise InvalidRequest(f"{where}: source option packages must be a list of package names")
    for name in given:
        # Also keeps out what apt reads as options or patterns: '-', '~', '?', '/', '='.
        if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
            raise InvalidRequest(f"{where}: source option packages: {name!a} is not a package name")
    return tuple(sorted(set(given)))


def _file_format(config: Mapping[str, Any], where: str) -> FileFormat:
    if config.get("format") is not None:
        return FileFormat(config["format"])
    name = config["path"].lower()
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            return _ENDINGS[ending]
    raise InvalidRequest(
        f"{where}: the name of {config['path']} does not tell what the file holds:"
        f" set source option format to {', '.join(kind.value for kind in FileFormat)}"
    )


@dataclass(frozen=True)
class StoredFile:
    """size in bytes; sha256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class SourceStamp:
    """What a source file looked like when it was read, so that an unchanged one need not be hashed again."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True)
class Image:
    """One image of the store.

    fingerprint: sha256 of the root archive of a built image, or of the file that was given. created: UTC,
    ISO 8601. unpacked_bytes and unpacked_files: of the root file system; 0 without one. root_prefix: the
    directory within the root archive that is the root file system ('' or 'rootfs'). kernel_command_line: for
    direct boot, '' without a kernel. mounts_disks: it has our program that mounts the disks of a virtual machine. An
    image without aliases was removed while a disk still needed it.
    """

    fingerprint: str
    os: str
    release: str
    architecture: str
    created: str
    source: Source
    has_root: bool
    has_disk: bool
    has_kernel: bool
    aliases: tuple[str, ...] = ()
    kernel_command_line: str = ""
    mounts_disks: bool = False
    root_prefix: str = ""
    unpacked_bytes: int = 0
    unpacked_files: int = 0
    stamp: SourceStamp | None = None
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_boot(self) -> bool:
        """Whether it can become a virtual machine: it has a disk, or what a disk is made of."""
        return self.has_disk or (self.has_root and self.has_kernel)

    @property
    def types(self) -> tuple[str, ...]:
        """Types of instances it can become."""
        return (("container",) if self.has_root else ()) + (("virtual-machine",) if self.can_boot else ())

    @property
    def size(self) -> int:
        """Bytes the image takes in the store."""
        return sum(file.size for file in self.files.values())


class State(str, Enum):
    """What a task asks of an image."""

    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True)
class Desired:
    """What a task asks for; None means unmanaged. aliases: further names beside name."""

    name: str
    state: State = State.PRESENT
    source: Source | None = None
    aliases: tuple[str, ...] | None = None
    recreate: str = "never"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({self.name, *(self.aliases or ())}))


@dataclass(frozen=True)
class Current:
    """image: the one that name means. source_fingerprint: digest of the wanted source file, None for a build.
    is_under_work: a run is making the image, or was when it was killed. has_leftovers: images that lost their name
    in a removal that was interrupted, or whose last disk is gone. users: virtual machines on the image's disk."""

    image: Image | None = None
    source_fingerprint: str | None = None
    is_under_work: bool = False
    has_leftovers: bool = False
    users: tuple[str, ...] = ()


def render_record(image: Image) -> dict[str, Any]:
    """The JSON record; aliases are not in it, since the links below aliases/ are their only place."""
    return {
        "schema": SCHEMA,
        "kind": "image",
        "name": image.fingerprint,
        "work": None,
        "os": image.os,
        "release": image.release,
        "architecture": image.architecture,
        "created": image.created,
        "source": image.source.render(),
        "has_root": image.has_root,
        "has_disk": image.has_disk,
        "has_kernel": image.has_kernel,
        "kernel_command_line": image.kernel_command_line,
        "mounts_disks": image.mounts_disks,
        "root_prefix": image.root_prefix,
        "unpacked": {"bytes": image.unpacked_bytes, "files": image.unpacked_files},
        "stamp": None
        if image.stamp is None
        else {"size": image.stamp.size, "modified_ns": image.stamp.modified_ns, "inode": image.stamp.inode},
        "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in sorted(image.files.items())},
        "properties": dict(image.properties),
    }


def parse_record(record: Mapping[str, Any], aliases: Sequence[str] = ()) -> Image:
    """An image from its record; Conflict if it is damaged or of a newer version."""
    name = str(record.get("name"))
    where = f"image record {name[:64]}"
    if record.get("schema") != SCHEMA:
        raise Conflict(f"{where} has schema {record.get('schema')}: it needs another version of tandem.machines")
    try:
        return _parse_fields(record, name, where, tuple(sorted(aliases)))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidRequest) as error:
        raise Conflict(f"{where} is damaged ({error!r}): remove the image and make it again") from None


def _parse_fields(record: Mapping[str, Any], name: str, where: str, aliases: tuple[str, ...]) -> Image:
    if not is_fingerprint(name) or record["architecture"] not in ARCHITECTURES:
        raise ValueError("fingerprint or architecture")
    stamp = record["stamp"]
    return Image(
        fingerprint=name,
        aliases=aliases,
        os=str(record["os"]),
        release=str(record["release"]),
        architecture=record["architecture"],
        created=str(record["created"]),
        source=parse_source(record["source"], where, record["architecture"]),
        has_root=bool(record["has_root"]),
        has_disk=bool(record["has_disk"]),
        has_kernel=bool(record["has_kernel"]),
        kernel_command_line=str(record["kernel_command_line"]),
        # Images of before the program existed do not have it.
        mounts_disks=bool(record.get("mounts_disks", False)),
        root_prefix=str(record["root_prefix"]),
        unpacked_bytes=int(record["unpacked"]["bytes"]),
        unpacked_files=int(record["unpacked"]["files"]),
        stamp=None if stamp is None else SourceStamp(stamp["size"], stamp["modified_ns"], stamp["inode"]),
        files={key: StoredFile(int(value["size"]), str(value["sha256"])) for key, value in record["files"].items()},
        properties={str(key): str(value) for key, value in record["properties"].items()},
    )


def describe_image(image: Image) -> dict[str, Any]:
    """The image as modules return it."""
    return {
        "fingerprint": image.fingerprint,
        "aliases": list(image.aliases),
        "os": image.os,
        "release": image.release,
        "architecture": image.architecture,
        "created_at": image.created,
        "source": image.source.render(),
        "types": list(image.types),
        "size": image.size,
        "has_disk": image.has_disk,
        "mounts_disks": image.mounts_disks,
        "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in sorted(image.files.items())},
        "properties": dict(image.properties),
    }
