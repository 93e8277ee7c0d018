"""A dataset in memory: episodes end to end, their metadata, their statistics, and the hash of their content."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS, suggest
from inspo_benchmark.core.types import Task

FORMAT, VERSION = "offline-marl", 1
BUILT = "built"  # `source` of a dataset that is built here
PART = 16 << 20  # bytes that are read, written or hashed at a time, so that a file may be larger than memory

PATHS = {  # field of `Dataset` -> array in the file; the names in files are those of format version 1
    "obs": "obs/obs",
    "state": "obs/state",
    "avail": "obs/legal",
    "actions": "steps/actions",
    "rewards": "steps/rewards",
    "terminated": "steps/terminated",
    "truncated": "steps/truncated",
    "behavior_logp": "steps/behaviour_logp",
    "offset": "episodes/offset",
    "won": "episodes/won",
    "seed": "episodes/seed",
}
RETURN = "episodes/return"
CARD = {  # metadata that follow from the task
    "format": str,
    "format_version": int,
    "task": str,
    "family": str,
    "quality": str,
    "backend": str,
    "action_kind": str,
    "agents": int,
    "obs": int,
    "state": int,
    "actions": int,
    "limit": int,
    "per_step": bool,
    "reference_random": float,
    "reference_best": float,
}
# Metadata of the recording; "" if unknown. The behavior policy's key, in `meta` as in files, has the spelling of format version 1.
PROVENANCE = {"source": str, "source_sha256": str, "behaviour": str, "notes": str}
# Metadata that follow from the arrays.
STATISTICS = {"episodes": int, "steps": int, "win_rate": float, "content_sha256": str}
STATISTICS |= {f"{name}_{of}": float for name in ("return", "sum", "length") for of in ("mean", "std", "min", "max")}
# Optional metadata: mean scores of the behavior policies when they take their most probable actions, over the episodes that they recorded.
GREEDY = ("behavior_greedy_return", "behavior_greedy_win_rate")

# What an episode of `Dataset.from_episodes` may have: arrays, and values of its end, the default first.
COLUMNS = ("obs", "state", "avail", "actions", "rewards")
ENDS = {"terminated": (1, 0), "won": (-1, 0, 1)}


@dataclass(frozen=True)
class Dataset:
    """E episodes, T steps, N agents, end to end. Episode e has the observations offset[e] + e to offset[e + 1] + e, inclusive."""

    obs: np.ndarray  # [T+E, N, O] float32
    state: np.ndarray  # [T+E, S] float32
    avail: np.ndarray  # [T+E, N, A] bool; Box: [T+E, N, 1], all true, not stored
    actions: np.ndarray  # [T, N] int8 (int16 for 128 actions or more), or [T, N, D] float32 in [-1, 1]
    rewards: np.ndarray  # [T] float32, team reward
    terminated: np.ndarray  # [T] bool, the environment terminated after this step
    truncated: np.ndarray  # [T] bool, the episode was cut after this step (time limit)
    behavior_logp: np.ndarray  # [T, N] float32, log-probability of each action under the behavior policy; unknown: [T, 0]
    offset: np.ndarray  # [E+1] int64, first step of each episode, then T
    won: np.ndarray  # [E] int8, 1 or 0; -1 where winning has no meaning
    seed: np.ndarray  # [E] int64, seed of the environment's reset; -1: unknown
    meta: dict[str, Any]  # CARD and PROVENANCE; for a file also the statistics and `content_sha256`

    @property
    def episodes(self) -> int:
        return len(self.offset) - 1

    @property
    def steps(self) -> int:
        return len(self.rewards)

    @property
    def lengths(self) -> np.ndarray:
        """Number of steps of each episode [E] int64."""
        return np.diff(self.offset)

    def slices(self, e: int) -> tuple[slice, slice]:
        """Where the steps of episode e and its observations are."""
        a, b = self.offset[e], self.offset[e + 1]
        return slice(a, b), slice(a + e, b + e + 1)

    @property
    def now(self) -> np.ndarray:
        """Row of the observation before each step [T] int64."""
        return np.arange(self.steps) + np.repeat(np.arange(self.episodes), self.lengths)

    @cached_property
    def returns(self) -> np.ndarray:
        """Sum of the rewards of each episode [E] float64, correctly rounded, so the same on every machine."""
        rewards, bounds = self.rewards.tolist(), self.offset.tolist()
        return np.array([math.fsum(rewards[a:b]) for a, b in pairwise(bounds)])

    @property
    def scores(self) -> np.ndarray:
        """Returns in the task's unit [E]: the sum of the rewards, or their mean per step."""
        return self.returns / self.lengths if self.meta["per_step"] else self.returns

    def subset(self, episodes: np.ndarray) -> "Dataset":
        """The episodes with these numbers, or where a mask [E] is true, in this order; an episode may stand in it several times.
        UserError: there are none."""
        numbers = np.arange(self.episodes)[episodes]
        if not len(numbers):
            raise UserError(f"none of the {self.episodes} episodes of {self.meta['task']} is in the subset, which has at least one")
        lengths = self.lengths[numbers]
        step, row = (np.r_[x] for x in zip(*map(self.slices, numbers)))
        rows = {name: getattr(self, name)[row] for name in ("obs", "state", "avail")}
        steps = {name: getattr(self, name)[step] for name in ("actions", "rewards", "terminated", "truncated", "behavior_logp")}
        return Dataset(
            **rows, **steps, offset=offsets(lengths), won=self.won[numbers], seed=self.seed[numbers], meta=without_statistics(self.meta)
        )

    @classmethod
    def from_episodes(cls, task: Task | str, episodes: Sequence[Mapping[str, Any]], source: str = "from_episodes") -> "Dataset":
        """A dataset of a task, or of the task of that name, from arrays, one mapping per episode of L steps.

        obs [L+1, N, O], with the observation after the last step; actions [L, N], or [L, N, D] in [-1, 1]; rewards [L], of the team.
        Optional: state [L+1, S] (default: the observations side by side), avail [L+1, N, A] bool (default: all), terminated (default:
        True; False for an episode that a time limit cut), won (True or False, if winning has a meaning).
        UserError: an array is missing or has another name, its shape does not fit the task or the other arrays, or a value is none of
        those above or against the rules of the format.
        """
        from inspo_benchmark.datasets.validate import problems  # which imports this module

        task = TASKS.discover()[task] if isinstance(task, str) else task
        if not isinstance(episodes, Iterable):
            raise UserError(f"episodes is a {type(episodes).__name__}, should be a list of mappings of names to arrays, one per episode")
        arrays, ends = [], []
        for e, episode in enumerate(episodes):
            arrays.append(_episode_arrays(task, e, episode))
            ends.append(_episode_ends(e, episode))
        if not arrays:
            raise UserError("no episodes: a dataset has at least one")
        end_to_end: dict[str, Any] = {name: np.concatenate([x[name] for x in arrays]) for name in COLUMNS}
        d = join(
            task,
            np.array([len(x["rewards"]) for x in arrays]),
            **end_to_end,
            terminated=np.array([x["terminated"] for x in ends], bool),
            won=np.array([x["won"] for x in ends]),
            source=source,
        )
        if found := problems(d):
            raise UserError(found[0])
        return d


def _episode_arrays(task: Task, e: int, episode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name -> array of episode e, for COLUMNS, with defaults where none is given. UserError: as in `Dataset.from_episodes`."""
    if not isinstance(episode, Mapping):
        raise UserError(f"episode {e} is a {type(episode).__name__}, should be a mapping of names to arrays, one for each episode")
    if unknown := [name for name in episode if name not in (*COLUMNS, *ENDS)]:
        raise UserError(f"episode {e}: unknown name {unknown[0]!r}; {suggest(str(unknown[0]), (*COLUMNS, *ENDS))}")
    if lacking := {"obs", "actions", "rewards"} - episode.keys():
        raise UserError(f"episode {e}: no {sorted(lacking)[0]}; it has {', '.join(sorted(episode)) or 'nothing'}")
    arrays = {name: as_numbers(episode[name], f"episode {e}: {name} is no array of numbers") for name in COLUMNS if name in episode}
    spec, obs, length = task.spec, arrays["obs"], arrays["rewards"].size
    if arrays["rewards"].shape != (length,) or not length:
        raise UserError(f"episode {e}: rewards has shape {arrays['rewards'].shape}, should have one number for each step")
    shapes = {
        "obs": (length + 1, spec.num_agents, spec.obs_dim),
        "state": (length + 1, spec.state_dim),
        "avail": (length + 1, spec.num_agents, spec.space.avail_dim),
        "actions": (length, spec.num_agents, *spec.space.noise_shape),
        "rewards": (length,),
    }
    arrays.setdefault("state", obs.reshape(*obs.shape[:1], math.prod(obs.shape[1:])))
    arrays.setdefault("avail", np.ones(shapes["avail"], bool))
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise UserError(f"episode {e}: {name} has shape {arrays[name].shape}, should have {shape} with {length} rewards")
    return arrays


def _episode_ends(e: int, episode: Mapping[str, Any]) -> dict[str, int]:
    """Name -> value of episode e, for ENDS, with defaults likewise. UserError: a value is none of those."""
    ends = {}
    for name, values in ENDS.items():
        wrong = f"episode {e}: {name} should be True or False, one value for the whole episode"
        value = as_numbers(episode.get(name, values[0]), wrong)
        if value.shape or value.item() not in values:
            raise UserError(wrong)
        ends[name] = int(value)
    return ends


def as_array(x: Any, wrong: str) -> np.ndarray:
    """UserError with the message `wrong`: x is no array and cannot become one."""
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError):  # lists of several lengths, a tensor on a GPU or with a gradient
        raise UserError(wrong) from None


def as_numbers(x: Any, wrong: str) -> np.ndarray:
    """x as an array. UserError with the message `wrong`: it is none of real numbers or truth values."""
    array = as_array(x, wrong)
    if array.dtype.kind not in "biuf":
        raise UserError(wrong)
    return array


def pack(
    task: Task,
    lengths: np.ndarray,  # [E] int
    obs: np.ndarray,  # [E, L+1, N, O]
    state: np.ndarray,  # [E, L+1, S]
    avail: np.ndarray,  # [E, L+1, N, A]
    actions: np.ndarray,  # [E, L, N] or [E, L, N, D]
    rewards: np.ndarray,  # [E, L]
    terminated: np.ndarray,  # [E] bool; an episode that did not terminate was truncated
    won: np.ndarray,  # [E]
    seed: np.ndarray,  # [E]
    **provenance: Any,  # keys of PROVENANCE
) -> Dataset:
    """Padded episodes -> Dataset; steps after an episode's end are dropped. UserError: an action is none of the task's."""
    step, row = (np.arange(x.shape[1]) < lengths[:, None] + more for x, more in ((actions, 0), (obs, 1)))
    return join(
        task,
        lengths,
        obs=obs[row],
        state=state[row],
        avail=avail[row],
        actions=actions[step],
        rewards=rewards[step],
        terminated=terminated,
        won=won,
        seed=seed,
        **provenance,
    )


def join(
    task: Task,
    lengths: np.ndarray,  # [E] int
    *,
    obs: np.ndarray,  # [T+E, N, O]
    state: np.ndarray,  # [T+E, S]
    avail: np.ndarray | None = None,  # [T+E, N, A]; None: everything
    actions: np.ndarray,  # [T, N] or [T, N, D]
    rewards: np.ndarray,  # [T]
    terminated: np.ndarray,  # [E] bool; an episode that did not terminate was truncated
    won: np.ndarray | int = -1,  # [E]
    seed: np.ndarray | int = -1,  # [E]
    behavior_logp: np.ndarray | None = None,  # [T, N]; None: unknown
    **provenance: str,
) -> Dataset:
    """Episodes end to end -> Dataset, with the dtypes of the format. UserError: an action is none of the task's."""
    space, count, steps = task.spec.space, len(lengths), int(lengths.sum())
    if space.kind == "discrete" and (unknown := ~np.isin(actions, np.arange(space.action_dim))).any():
        raise UserError(f"action {actions[unknown][0]} in the data; {task.name} has actions 0 .. {space.action_dim - 1}")
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, which `problems` reports
        obs, state, rewards = (np.ascontiguousarray(x, "<f4") for x in (obs, state, rewards))
    ends = np.zeros((2, steps), bool)
    ends[:, np.cumsum(lengths) - 1] = terminated, ~terminated
    everything = np.broadcast_to(True, (steps + count, task.spec.num_agents, space.avail_dim))
    return Dataset(
        obs=obs,
        state=state,
        avail=everything if avail is None else avail.astype(bool, copy=False),
        actions=actions.astype(action_dtype(space.kind, space.action_dim), copy=False),
        rewards=rewards,
        terminated=ends[0],
        truncated=ends[1],
        behavior_logp=np.zeros((steps, 0), "<f4") if behavior_logp is None else behavior_logp.astype("<f4"),
        offset=offsets(lengths),
        won=np.broadcast_to(won, count).astype("i1"),
        seed=np.broadcast_to(seed, count).astype("<i8"),
        meta=card(task) | {key: provenance.get(key, "") for key in PROVENANCE},
    )


def concatenate(some: list[Dataset]) -> Dataset:
    """The episodes of one or more datasets, with the `meta` of the first, except its statistics."""
    arrays = {name: np.concatenate([getattr(d, name) for d in some]) for name in PATHS if name != "offset"}
    offset = offsets(np.concatenate([d.lengths for d in some]))
    return Dataset(**arrays, offset=offset, meta=without_statistics(some[0].meta))


def offsets(lengths: np.ndarray) -> np.ndarray:
    """The first step of each episode, then the number of steps [E+1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")


def without_statistics(meta: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key not in STATISTICS}


def card(task: Task) -> dict[str, Any]:
    """The part of `meta` that follows from the task."""
    spec = task.spec
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "task": task.name,
        "family": task.family,
        "quality": task.quality,
        "backend": task.backend,
        "action_kind": spec.space.kind,
        "agents": spec.num_agents,
        "obs": spec.obs_dim,
        "state": spec.state_dim,
        "actions": spec.space.action_dim,
        "limit": spec.episode_limit,
        "per_step": task.per_step,
        "reference_random": float(task.reference[0]),
        "reference_best": float(task.reference[1]),
    }


def statistics(d: Dataset) -> dict[str, Any]:
    """The part of `meta` that follows from the arrays: `return_*` in the task's unit, `sum_*` of undiscounted sums of rewards."""
    return statistics_of(d.returns, d.lengths, d.won, d.meta["per_step"])


def statistics_of(returns: np.ndarray, lengths: np.ndarray, won: np.ndarray, per_step: bool) -> dict[str, Any]:
    won = won[won >= 0]
    out = {"episodes": len(lengths), "steps": int(lengths.sum()), "win_rate": float(won.mean()) if len(won) else -1.0}
    for name, x in (("return", returns / lengths if per_step else returns), ("sum", returns), ("length", lengths)):
        out |= {f"{name}_{f}": float(getattr(x, f)()) for f in ("mean", "std", "min", "max")}
    return out


def content_sha256(d: Dataset) -> str:
    """Hash of the task's name and of every array's path, dtype, shape and bytes, sorted by path; independent of chunks and compression."""
    return digest_of(d.meta["task"], arrays_of(d))


def digest_of(task: str, arrays: dict[str, Any]) -> str:
    """`content_sha256` of arrays by path, of numpy or of HDF5."""
    h = hashlib.sha256(f"{task}\n".encode())
    for path, x in sorted(arrays.items()):
        h.update(f"{path} {x.dtype.str} {tuple(x.shape)}\n".encode())
        step = max(1, PART // max(1, x[:1].nbytes))
        for i in range(0, len(x), step):
            h.update(np.ascontiguousarray(x[i : i + step]).data.cast("B") if x.size else b"")
    return h.hexdigest()


def arrays_of(d: Dataset) -> dict[str, np.ndarray]:
    """Path -> array, of all arrays that a file stores."""
    neutral = {"avail": d.meta["action_kind"] == "continuous", "behavior_logp": d.behavior_logp.shape[1] == 0}
    return {PATHS[name]: getattr(d, name) for name in PATHS if not neutral.get(name)} | {RETURN: d.returns.astype("<f4")}


def action_dtype(kind: str, width: int) -> str:
    return "<f4" if kind == "continuous" else "|i1" if width <= 127 else "<i2"
