"""The messages of a worker process to the main process. Each is a line of JSON: a list of its name and its fields."""

import json
from dataclasses import astuple, dataclass
from typing import get_type_hints


@dataclass(frozen=True)
class Progressed:
    update: int
    score: float | None  # mean return, if the policies were just evaluated


@dataclass(frozen=True)
class Finished:
    pass


@dataclass(frozen=True)
class Locked:
    """Another process is running the experiment."""


@dataclass(frozen=True)
class Interrupted:
    """The main process asked the worker to stop. A checkpoint was saved if training had begun."""


@dataclass(frozen=True)
class Failed:
    """An error that an immediate retry would only repeat."""

    reason: str
    again: bool  # whether the same command runs the experiment again


@dataclass(frozen=True)
class Crashed:
    """An unexpected exception."""

    reason: str


Message = Progressed | Finished | Locked | Interrupted | Failed | Crashed
MESSAGES = {message.__name__: message for message in (Progressed, Finished, Locked, Interrupted, Failed, Crashed)}


def encode(message: Message) -> bytes:
    return json.dumps([type(message).__name__, *astuple(message)]).encode() + b"\n"


def decode(line: bytes) -> Message:
    """ValueError: the line is not a message."""
    try:
        name, *values = json.loads(line)
        message = MESSAGES[name](*values)
    except (TypeError, KeyError, RecursionError):
        raise ValueError("not a message") from None
    for field, kind in get_type_hints(type(message)).items():
        if not isinstance(getattr(message, field), kind):
            raise ValueError(f"{name}.{field} is not of type {kind}")
    return message
