"""What the server and its executors share: frames and the arena."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.arena import MIN_SLOT, Arena
from modelport.engine.wire import (
    FRAME,
    Group,
    OutHead,
    Problem,
    Reply,
    decode_reply,
    frame,
    pack_tensor,
    unpack_tensor,
)
from modelport.errors import InputError, ModelFailed, TooLarge


def test_a_frame_holds_its_head_behind_its_payload() -> None:
    reply = Reply(7, [Group(2, (OutHead("y", "float32", (2, 3), 24),), net=0.5)], 0.25)
    data = b"".join(frame(reply, [b"x" * 24, memoryview(b"abc")]))
    size, head, _ = FRAME.unpack_from(data)
    assert (size, len(data)) == (27, FRAME.size + 27 + head)
    assert data[FRAME.size : FRAME.size + size] == b"x" * 24 + b"abc"
    assert decode_reply(data[FRAME.size + size :]) == reply


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "int64", "float64"])
@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 3), (4, 1, 5)])
def test_tensors_come_back_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    back = unpack_tensor(memoryview(pack_tensor(array)), dtype, shape)
    assert back.dtype == array.dtype and np.array_equal(back, array)
    turned = array.T
    assert np.array_equal(unpack_tensor(memoryview(pack_tensor(turned)), dtype, turned.shape), turned)


@given(st.lists(st.text(), max_size=8))
def test_text_comes_back_as_it_was(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    back = unpack_tensor(memoryview(pack_tensor(array)), "string", (len(texts),))
    assert back.tolist() == texts


@given(
    st.lists(
        st.sampled_from(["", "", "", "a", "person", "x" * 256, "y" * 65536, "\0", "\0" * 8]), max_size=40
    )
)
def test_mostly_empty_text_comes_back_as_it_was(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    back = unpack_tensor(memoryview(pack_tensor(array)), "string", (len(texts),))
    assert back.tolist() == texts


def test_text_that_is_no_string_keeps_its_own_words() -> None:
    array = np.array([True, 1, 1.0, b"1", "1"], dtype=object)
    assert unpack_tensor(memoryview(pack_tensor(array)), "string", (5,)).tolist() == [
        "True",
        "1",
        "1.0",
        "1",
        "1",
    ]


def test_an_unaligned_tensor_is_copied_to_where_it_may_be_read() -> None:
    data = memoryview(b"\0" + np.arange(4, dtype=np.float64).tobytes())[1:]
    array = unpack_tensor(data, "float64", (4,))
    assert array.flags.aligned and array.tolist() == [0, 1, 2, 3]


def test_errors_keep_their_kind_their_place_and_their_hint() -> None:
    problem = TooLarge("so big", at="$.x", hint="smaller")
    back = Problem.of(problem).error()
    assert isinstance(back, TooLarge) and (back.message, back.at, back.hint) == ("so big", "$.x", "smaller")
    assert isinstance(Problem.of(InputError("no")).error(), InputError)
    stranger = Problem.of(ZeroDivisionError("secret /path")).error()
    assert isinstance(stranger, ModelFailed) and "secret" not in str(stranger)
    assert isinstance(Problem("Exception", "not one of ours").error(), ModelFailed)
    assert isinstance(Problem("did_you_mean", "no class").error(), ModelFailed)


def test_slots_do_not_overlap_and_come_back() -> None:
    arena = Arena(1 << 20)
    first, second = arena.take(100_000), arena.take(10)
    assert first is not None and second is not None and second.size == MIN_SLOT
    first.view[:] = b"a" * first.size
    second.view[:] = b"b" * second.size
    assert bytes(first.view[-1:]) == b"a" and arena.in_use() == first.size + second.size
    offset = first.offset
    first.release()
    first.release()
    again = arena.take(70_000)
    assert again is not None and again.offset == offset
    assert arena.take(2 << 20) is None
    for slot in (again, second):
        slot.release()
    assert arena.in_use() == 0


def test_a_large_slot_gives_its_memory_back() -> None:
    arena = Arena(64 << 20)
    slot = arena.take(8 << 20)
    assert slot is not None
    slot.view[:8] = b"12345678"
    slot.release()
    again = arena.take(8 << 20)
    assert again is not None and again.offset == slot.offset
    assert bytes(again.view[:8]) in (bytes(8), b"12345678")  # zeros where the system takes it back at once
