# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What goes through a virtual machine's port, cut and mixed in every way."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._instance.frames import QUIT, Input, Parser
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = "t" + "5f" * 16
# Bytes that look like the beginning of a token or of a frame are the interesting ones.
DATA = st.lists(st.sampled_from([b"t", b"5f", b"t5", b"f", b"\n", b" E 0\n", b"\0", b"q\n", b"x" * 50, b"\xff"])).map(
    b"".join
)
MIB = 1024 * 1024


class Sink:
    """Collects what a parser gives."""

    def __init__(self) -> None:
        self.streams = {1: b"", 2: b""}
        self.taken = 0

    def take(self, descriptor: int, data: bytes) -> None:
        assert data
        self.streams[descriptor] += data

    def count(self) -> None:
        self.taken += 1


def frame(kind: str, number: int = 0) -> bytes:
    return f"{TOKEN} {kind} {number}\n".encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(ends, ends[1:])]


@settings(deadline=None)
@given(stale=DATA, pieces=st.lists(DATA, max_size=5), errors=DATA, places=st.lists(st.integers(0, 5000), max_size=30))
def test_every_way_to_cut_the_stream_gives_the_same(
    stale: bytes, pieces: list[bytes], errors: bytes, places: list[int]
) -> None:
    # A whole token in the data would mean that the guest's root forges it: only its own result suffers.
    pieces = [piece.replace(TOKEN.encode(), b"") for piece in pieces]
    stale = stale.replace(TOKEN.encode(), b"")
    between = [b"".join([piece, frame("K"), frame("P", 7)]) for piece in pieces]
    raw = b"".join([stale, frame("H"), *between, frame("S", 3), b"late"])
    raw += frame("R", len(errors)) + errors + frame("E") + b"after the end"
    sink = Sink()
    parser = Parser(TOKEN, sink.take, sink.count)
    for piece in cut(raw, places):
        parser.feed(piece)
    assert sink.streams == {1: b"".join(pieces) + b"late", 2: errors}
    assert (parser.started, parser.status, parser.ended) == (True, 3, True)
    assert parser.pid == (7 if pieces else None)
    assert sink.taken == len(pieces)


def test_output_is_given_as_soon_as_it_cannot_be_a_frame() -> None:
    """A password prompt does not end in a newline."""
    sink = Sink()
    parser = Parser(TOKEN, sink.take)
    parser.feed(frame("H") + b"Password: ")
    assert sink.streams[1] == b"Password: "
    parser.feed(TOKEN[:10].encode())
    assert sink.streams[1] == b"Password: "
    parser.feed(b"?")
    assert sink.streams[1] == b"Password: " + TOKEN[:10].encode() + b"?"


@pytest.mark.parametrize("header", [b" S x\n", b" S\n", b" " + b"S" * 40, b" S -1\n"])
def test_damaged_frames_are_refused(header: bytes) -> None:
    parser = Parser(TOKEN, Sink().take)
    with pytest.raises(EngineError, match="not well formed"):
        parser.feed(TOKEN.encode() + header + b" " * 40)


def read_frames(data: bytes) -> tuple[list[bytes], bool]:
    """What the guest's pump makes of it: the blocks of each frame, and whether the end of input was seen."""
    frames = []
    while data:
        header, _unused, data = data.partition(b"\n")
        if header == b"0":
            assert not data
            return frames, True
        size, count = map(int, header.split())
        assert 0 < size <= MIB
        frames.append(data[: size * count])
        assert len(frames[-1]) == size * count
        data = data[size * count :]
    return frames, False


def send_all(given_input: Input) -> bytes:
    """Everything the input sends to a guest that takes each frame at once."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        sent = b""
        while given_input.has_frame():
            given_input.send_some(ours)
            while True:
                try:
                    piece = theirs.recv(MIB)
                except BlockingIOError:
                    break
                sent += piece
            given_input.taken()
        return sent


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
def test_input_at_hand_goes_in_at_most_two_frames(size: int) -> None:
    data = os.urandom(size)
    frames, is_ended = read_frames(send_all(Input(data)))
    assert b"".join(frames) == data
    assert is_ended
    assert len(frames) <= 2


def test_followed_input_gathers_while_the_guest_is_busy() -> None:
    reading, writing = os.pipe()
    try:
        followed = Input(descriptor=reading)
        assert followed.wants_more and not followed.has_frame()
        os.write(writing, b"one")
        followed.read_more()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert followed.has_frame()
            followed.send_some(ours)
            for piece in (b"two", b"three"):
                os.write(writing, piece)
                followed.read_more()
            assert not followed.has_frame(), "the guest has not taken the first frame yet"
            followed.taken()
            assert followed.has_frame()
            followed.send_some(ours)
            assert read_frames(theirs.recv(100)) == ([b"one", b"twothree"], False)
            os.close(writing)
            followed.read_more()
            assert followed.descriptor is None and not followed.wants_more
            followed.taken()
            assert followed.has_frame()
            followed.send_some(ours)
            assert theirs.recv(100) == b"0\n"
            followed.taken()
            assert not followed.has_frame()
    finally:
        os.close(reading)


def test_quitting_is_no_frame_of_data() -> None:
    assert QUIT.strip().isalpha()
