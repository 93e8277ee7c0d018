"""The settings that every method has, and the parsing of `field=value` arguments."""

import dataclasses
import inspect
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.core.types import MAX_FLOAT, MAX_NUMBER
from inspo_benchmark.learning.nets import NetworkKind

UNCLIPPED = 1e9  # max_grad_norm: no gradient has this norm
WORDS = {int: "a whole number", float: "a number", bool: "true or false"}  # for the types of fields, in error messages


@dataclass(frozen=True)
class Common:
    """The settings that every method has."""

    lr: float = 1e-3  # learning rate
    hidden_dim: int = 64  # units per hidden layer
    batch_size: int = 128  # sequences per update
    seq_len: int = 1  # steps per sequence
    network: NetworkKind = "mlp"  # policies: feed-forward, or recurrent over the episode
    share_params: bool = False  # one policy network that gets the agent's index, instead of one per agent
    max_grad_norm: float = 10.0  # gradients are scaled down to this norm
    num_updates: int = 2000  # gradient updates
    ema_rate: float = 1.0  # agents act by a running mean of their weights over about the last 1 / ema_rate updates; 1: by the last

    # Settings of `Valued`, which are constants of other methods: without types they are no fields.
    burn_in = 0
    normalize_rewards = shape_rewards = False

    def __post_init__(self):
        for name, kind in kinds_of(type(self)).items():
            check_kind(name, kind, value := getattr(self, name))
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name}={value}: not a finite number")
            limit = MAX_FLOAT if isinstance(value, float) else MAX_NUMBER
            if not isinstance(value, str) and abs(value) > limit:
                raise UserError(f"{name}={value}: must lie between -{limit:g} and {limit:g}")
        for name in ("lr", "hidden_dim", "batch_size", "seq_len", "max_grad_norm", "num_updates"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name}={getattr(self, name)}: must be above 0")
        if not 0 < self.ema_rate <= 1:
            raise UserError(f"ema_rate={self.ema_rate}: must lie in (0, 1]")
        if self.network == "gru" and self.seq_len == 1:
            raise UserError("network=gru learns from sequences: set seq_len above 1, for example seq_len=20 batch_size=16")
        if self.network == "mlp" and self.burn_in:
            raise UserError("burn_in warms up a recurrent state: it needs network=gru")

    @classmethod
    def parse(cls, assignments: Sequence[str], algo: str) -> dict[str, Any]:
        """`field=value` arguments of the method `algo` -> values of the fields' types. UserError: an unknown field, or another type."""
        kinds = kinds_of(cls)
        values = {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals:
                raise UserError(f"{text}: write field=value")
            if name in values:
                raise UserError(f"{text}: {name} is set twice")
            if name not in kinds:
                raise UserError(f"{text}: the method {algo} has no field {name!r}; {cls.missing(name)}")
            values[name] = coerce(name, kinds[name], value)
        return values

    @classmethod
    def missing(cls, name: str) -> str:
        """The end of an error message about a field that there is not."""
        if name in inspect.get_annotations(cls):
            return "its Config has to be decorated with @dataclass(frozen=True)"
        if name in vars(cls) and not hasattr(Common, name):
            return f"its Config has to state the type: {name}: float = {vars(cls)[name]!r}, for example"
        return suggest(name, kinds_of(cls))


@dataclass(frozen=True)
class Valued(Common):
    """The settings of methods that bootstrap values, besides those of every method."""

    gamma: float = 0.99  # discount
    tau: float = 0.005  # Polyak rate of the targets
    target_update_interval: int = 0  # updates between copies to the targets; 0 is Polyak averaging
    burn_in: int = 0  # first steps of a sequence that only warm up the recurrent state, unless they begin the episode
    normalize_rewards: bool = False  # divide rewards by the standard deviation of the data's discounted returns-to-go
    shape_rewards: bool = False  # add the change of a potential that is fitted to the data's returns, see `learning.shaping`

    def __post_init__(self):
        super().__post_init__()
        if not (0 <= self.gamma <= 1 and 0 < self.tau <= 1):
            raise UserError("gamma must lie in [0, 1] and tau in (0, 1]")
        if not (self.target_update_interval >= 0 and 0 <= self.burn_in < self.seq_len):
            raise UserError("target_update_interval must not be negative, and burn_in must lie in [0, seq_len)")


def kinds_of(cls: type[Common]) -> dict[str, Any]:
    """Field -> type: int, float, bool or a Literal of names. UserError: another one."""
    hints = typing.get_type_hints(cls)
    kinds = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    for name, kind in kinds.items():
        if kind not in (int, float, bool) and typing.get_origin(kind) is not typing.Literal:
            raise UserError(f"the field {name} of {cls.__qualname__} is of type {kind}; write int, float, bool or a Literal of names")
    return kinds


def check_kind(name: str, kind: Any, value: Any) -> None:
    """UserError: the value of a field is of another type."""
    if choices := typing.get_args(kind):
        if value not in choices:
            raise UserError(f"{name}={value}: must be one of {', '.join(choices)}")
    elif not isinstance(value, {int: Integral, float: Real, bool: bool}[kind]) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name}={value!r}: must be {WORDS[kind]}")


def coerce(name: str, kind: Any, text: str) -> Any:
    """Parse a value of the type `kind`: int, float, bool or a Literal of names."""
    if typing.get_args(kind):
        check_kind(name, kind, text)
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{name}={text}: must be {WORDS[bool]}")
        return text.lower() == "true"
    try:
        number = float(text)
        if kind is int and number != int(number):
            raise ValueError
        return kind(number)
    except (ValueError, OverflowError):
        raise UserError(f"{name}={text}: must be {WORDS[kind]}") from None
