"""Frames: round trips, and every way in which a stream can be broken."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdfcore import protocol
from sdfcore.errors import EngineError, ProtocolError
from sdfcore.protocol import Message

ARRAYS = {"points": np.arange(12, dtype=np.float32).reshape(4, 3), "faces": np.array([[0, 1, 2]], np.int32)}
MESSAGE = Message(
    "fit", "job1", {"steps": 10, "seconds": None, "title": "Züs 🐒", "deep": {"a": [1, 2.5, True]}}, ARRAYS
)


def frame(message: Message = MESSAGE) -> bytes:
    return bytes(protocol.pack(message))


def archive(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A frame with just these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return struct.pack("<Q", len(buffer.getvalue())) + buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(text: str = json.dumps({"kind": "fit", "job": "", "body": {}})) -> bytes:
    return npy(np.frombuffer(text.encode(), np.uint8))


def same(a: Message, b: Message) -> bool:
    arrays = a.arrays.keys() == b.arrays.keys() and all(
        a.arrays[k].dtype == b.arrays[k].dtype and np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays
    )
    return (a.kind, a.job, a.body) == (b.kind, b.job, b.body) and arrays


class Trickle(io.RawIOBase):
    """A pipe that takes and gives a few bytes at a time."""

    def __init__(self, data: bytes = b"", size: int = 7) -> None:
        self.data, self.size = bytearray(data), size

    def read(self, size: int = -1) -> bytes:
        part = bytes(self.data[: min(size, self.size)])
        del self.data[: len(part)]
        return part

    def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
        self.data += bytes(data[: self.size])
        return min(len(data), self.size)


def test_a_message_comes_back_as_it_was() -> None:
    back = protocol.read(io.BytesIO(frame()))
    assert back is not None
    assert same(back, MESSAGE)


def test_a_frame_is_a_length_and_an_npz() -> None:
    data = frame()
    assert int.from_bytes(data[:8], "little") == len(data) - 8
    with np.load(io.BytesIO(data[8:]), allow_pickle=False) as loaded:
        assert sorted(loaded) == ["faces", "header", "points"]
        assert json.loads(bytes(loaded["header"]))["job"] == "job1"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_partial_reads_and_writes(size: int) -> None:
    pipe = Trickle(size=size)
    protocol.write(pipe, MESSAGE)
    protocol.write(pipe, Message("stop", "job1"))
    first, second, end = (protocol.read(pipe) for _ in range(3))
    assert first is not None
    assert same(first, MESSAGE)
    assert second is not None
    assert second.kind == "stop"
    assert end is None


def test_a_stream_cut_at_any_byte_is_an_error_and_at_a_border_an_end() -> None:
    data = frame()
    assert protocol.read(io.BytesIO(b"")) is None
    for cut in range(1, len(data)):
        with pytest.raises(ProtocolError):
            protocol.read(io.BytesIO(data[:cut]))


def test_a_changed_byte_is_never_more_than_a_protocol_error() -> None:
    data = frame(Message("fit", "j", {"a": 1}, {"points": np.ones((2, 3), np.float32)}))
    for place in range(8, len(data)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(data)
            broken[place] ^= flip
            try:
                protocol.read(io.BytesIO(bytes(broken)))
            except ProtocolError:
                continue


def test_too_long_is_refused_before_anything_is_read() -> None:
    class Counting(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1) -> bytes:
            self.asked += size or 0
            return super().read(size)

    stream = Counting(struct.pack("<Q", 1 << 60) + b"x" * 100)
    with pytest.raises(ProtocolError, match="longer than"):
        protocol.read(stream)
    assert stream.asked == 8
    with pytest.raises(ProtocolError, match="longer than"):
        protocol.pack(MESSAGE, limit=100)
    sink = io.BytesIO()
    with pytest.raises(ProtocolError, match="longer than"):
        protocol.write(sink, MESSAGE, limit=400)
    assert sink.getvalue() == b""


def test_a_false_length_costs_no_memory() -> None:
    with pytest.raises(ProtocolError, match="ends after 3 of"):
        protocol.read(io.BytesIO(struct.pack("<Q", 7 << 30) + b"abc"))


def test_a_member_that_claims_to_be_huge() -> None:
    data = bytearray(archive({"header.npy": header(), "points.npy": npy(np.zeros(100))})[8:])
    entry = data.rindex(b"PK\x01\x02")  # the central directory's last record: sizes at 20 and 24
    data[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    with pytest.raises(ProtocolError, match="claim to be larger"):
        protocol.unpack(bytes(data))


def test_an_array_that_claims_a_huge_shape() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 58,)})
    with pytest.raises(ProtocolError, match="not what follows"):
        protocol.unpack(archive({"header.npy": header(), "points.npy": stream.getvalue()})[8:])


def test_a_zip_bomb_is_not_inflated() -> None:
    bomb = archive({"header.npy": header(), "points.npy": npy(np.zeros(10_000_000))}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 200_000
    with pytest.raises(ProtocolError, match=r"claim to be larger|compressed"):
        protocol.unpack(bomb[8:])


def test_compression_alone_is_refused() -> None:
    noise = np.random.default_rng(0).random(100)
    data = archive({"header.npy": header(), "points.npy": npy(noise)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ProtocolError):
        protocol.unpack(data[8:])


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"points.npy": npy(np.zeros(3))}, "no header"),
        ({"header.npy": header(), "points.npy": npy(np.array([{}], object))}, "only numbers"),
        ({"header.npy": header(), "points.npy": npy(np.zeros(2, "U4"))}, "only numbers"),
        ({"header.npy": header(), "points.npy": npy(np.zeros(2, "f4,i4"))}, "only numbers"),
        ({"header.npy": header(), "points.npy": npy(np.zeros(3)) + b"more"}, "not what follows"),
        ({"header.npy": header(), "points.npy": b"junk"}, "cannot be read"),
        ({"header.npy": header(), "../points.npy": npy(np.zeros(3))}, "has an entry"),
        ({"header.npy": header(), "a b.npy": npy(np.zeros(3))}, "has an entry"),
        ({"header.npy": header(), "points": npy(np.zeros(3))}, "has an entry"),
        ({"header.npy": header("no json")}, "cannot be read"),
        ({"header.npy": header("[1, 2]")}, "cannot be read"),
        ({"header.npy": header('{"kind": "fit", "job": ""}')}, "cannot be read"),
        ({"header.npy": header('{"kind": "fit", "job": 3, "body": {}}')}, "not of this protocol"),
        ({"header.npy": header('{"kind": "fit", "job": "", "body": []}')}, "not of this protocol"),
        ({"header.npy": header('{"kind": "a b", "job": "", "body": {}}')}, "cannot be read"),
        ({"header.npy": header('{"kind": "fit", "job": "", "body": {"a": NaN}}')}, "not JSON"),
        ({"header.npy": header('{"kind": "fit", "job": "", "body": ' + "[" * 100_000)}, "cannot be read"),
    ],
)
def test_foreign_entries(entries: dict[str, bytes], said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        protocol.unpack(archive(entries)[8:])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_twice() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("header.npy", "points.npy", "points.npy"):
            file.writestr(name, header())
    with pytest.raises(ProtocolError, match="twice"):
        protocol.unpack(buffer.getvalue())


@pytest.mark.parametrize("text", [b"hello, world, this is text\n" * 9, b"\0" * 64, b"\xff" * 64])
def test_text_on_the_stream_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.read(io.BytesIO(text))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_, np.int64, np.float16]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=3),
)
def test_any_array_and_body_come_back(array: np.ndarray, body: dict[str, object]) -> None:
    back = protocol.unpack(frame(Message("done", "x", body, {"values": array, "turned": array.T}))[8:])
    assert back.body == body
    assert back.arrays["values"].dtype == array.dtype
    assert back.arrays["values"].shape == array.shape
    assert back.arrays["values"].tobytes() == array.tobytes()
    assert back.arrays["turned"].tobytes() == array.T.tobytes()


def test_arrays_in_another_order_or_byte_order() -> None:
    values = np.arange(6, dtype=np.float64).reshape(2, 3)
    data = archive(
        {"header.npy": header(), "a.npy": npy(np.asfortranarray(values)), "b.npy": npy(values.astype(">f8"))}
    )
    back = protocol.unpack(data[8:])
    assert np.array_equal(back.arrays["a"], values)
    assert np.array_equal(back.arrays["b"], values)


def test_received_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        protocol.unpack(frame()[8:]).arrays["points"][0] = 1


def test_numbers_that_are_not_finite_become_null() -> None:
    body = {"loss": float("nan"), "more": [np.float32("inf"), np.int64(3), np.bool_(True)], "deep": {"x": -np.inf}}
    assert Message("progress", "j", body).body == {"loss": None, "more": [None, 3, True], "deep": {"x": None}}


@pytest.mark.parametrize(
    ("kind", "body", "arrays"),
    [
        ("", {}, {}),
        ("two words", {}, {}),
        ("fit", {"a": object()}, {}),
        ("fit", {1: 2}, {}),
        ("fit", {"a": np.zeros(3)}, {}),
        ("fit", {}, {"header": np.zeros(3)}),
        ("fit", {}, {"a-b": np.zeros(3)}),
        ("fit", {}, {"a": np.array(["x"])}),
        ("fit", {}, {"a": np.array([{}], object)}),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_is_made(kind: str, body: dict, arrays: dict) -> None:
    with pytest.raises((TypeError, ValueError)):
        Message(kind, "j", body, arrays)


def test_versions_must_agree() -> None:
    protocol.agree(1, 1)
    with pytest.raises(EngineError, match="worker speaks 2, add-on speaks 1") as caught:
        protocol.agree(2, 1)
    assert caught.value.hint == "Restart Blender after updating the extension."
