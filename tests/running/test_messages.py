"""Messages of workers: what is encoded comes back, and everything else is a ValueError."""

import pytest

from inspo_benchmark.running.messages import Crashed, Failed, Finished, Interrupted, Locked, Progressed, decode, encode

MESSAGES = [
    Progressed(3, 0.5),
    Progressed(3, None),
    Finished(),
    Locked(),
    Interrupted(),
    Failed("no space left", True),
    Crashed('a "quoted"\nline'),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_a_message_is_one_line_and_comes_back(message):
    line = encode(message)
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert decode(line) == message
    assert type(decode(line)) is type(message)


INVALID = [
    b"",
    b"[[[\xff",
    b"[" * 100_000,
    b"null",
    b"{}",
    b"[]",
    b"[[]]",
    b'["Unknown"]',
    b'["Finished", 1]',
    b'["Progressed", 3]',
    b'["Progressed", "3", null]',
    b'["Progressed", 3, "1.0"]',
    b'["Failed", "no space left", "yes"]',
    b'["Crashed", null]',
]


@pytest.mark.parametrize("line", INVALID, ids=lambda line: repr(line[:40]))
def test_anything_else_is_a_value_error(line):
    with pytest.raises(ValueError):  # noqa: PT011
        decode(line)
