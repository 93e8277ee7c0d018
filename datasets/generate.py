"""Datasets of the games, with the same content on every machine: their random numbers are raw Philox words modulo small integers.

XOR and Bridge follow AlberDICE's recordings (github.com/dematsunaga/alberdice at 4d69f0e), which are not redistributed here: the same
numbers of episodes, the same supports, and on Bridge policies that explain the recorded actions. M-NE follows InSPO (arXiv:2412.07639).
To use the recordings themselves: `python -m datasets convert pymarl`.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import BUILT, Dataset, pack

SUPPORTS = {  # quality -> joint actions of XOR; A is 0, B is 1
    "ab": [(0, 1)],
    "ab_ba": [(0, 1), (1, 0)],
    "aa_ab_ba": [(0, 0), (0, 1), (1, 0)],
    "all": [(0, 0), (0, 1), (1, 0), (1, 1)],
}
WORST_SHARE = 92  # percentage of the worst equilibrium among the joint actions of M-NE's imbalanced data

# Bridge, both agents first moving left: agent 0 backs out, steps aside (left, up or down, equally often) and returns behind agent 1.
STAY, UP, DOWN, RIGHT, LEFT = range(5)
LETTERS = dict(zip("SUDRL", range(5), strict=True))
ASIDE = [("LLRR", "LLUL")] * 2 + [("LUDR", "LLLU")] * 2 + [("LDUR", "LLLU"), ("LDUR", "LLUL")]
ACROSS = ["RRRD", "RRDR"]
AT_GOAL = [STAY, UP, LEFT]  # actions that keep agent 1 in its corner
MIRROR = np.array([STAY, DOWN, UP, LEFT, RIGHT])  # a rotation of the board by 180 degrees exchanges the agents


class Stream:
    """Random integers that depend on a name alone. Unlike numpy's distributions, raw words do not change with numpy's version."""

    def __init__(self, name: str):
        self.bits = np.random.Philox(key=int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little"))

    def integers(self, n: int, size: tuple[int, ...]) -> np.ndarray:
        """Uniform on 0 .. n - 1, with a bias of at most n / 2**64."""
        return (self.bits.random_raw(size) % np.uint64(n)).astype(np.int64)


def xor(task: Task, episodes: int = 100) -> Dataset:
    """Joint actions i.i.d. uniform over the support of this quality."""
    support = np.array(SUPPORTS[task.quality])
    actions = support[Stream(task.name).integers(len(support), (task.spec.episode_limit, episodes))]
    return record(task, actions, f"uniform over the joint actions {task.quality.upper().replace('_', ', ')}")


def mne(task: Task, episodes: int = 100) -> Dataset:
    """Balanced: i.i.d. uniform over all joint actions. Imbalanced: mostly the worst equilibrium, all other joint actions equally often."""
    payoff, stream, size = task.make(1).payoff, Stream(task.name), (task.spec.episode_limit, episodes)
    if task.quality == "balanced":
        joint, behavior = stream.integers(payoff.size, size), "uniform over all joint actions"
    else:
        equilibria = np.arange(len(payoff)) * sum(len(payoff) ** i for i in range(payoff.ndim))  # flat indices of (a, ..., a)
        worst = equilibria[payoff.flat[equilibria].argmin()]
        other = stream.integers(payoff.size - 1, size)
        joint = np.where(stream.integers(100, size) < WORST_SHARE, worst, other + (other >= worst))
        behavior = f"{WORST_SHARE} % the worst equilibrium, otherwise uniform over the other joint actions"
    return record(task, np.stack(np.unravel_index(joint, payoff.shape), -1), behavior)


def bridge(task: Task, episodes: int = 0) -> Dataset:
    """Optimal (500 episodes): either agent lets the other pass. Mix (1000): half are uniformly random, the others optimal."""
    if task.quality == "optimal":
        optimal = passing("bridge-optimal", episodes or 500, task.spec.episode_limit)
        return record(task, optimal, "either agent backs out and lets the other pass")
    episodes = episodes or 1000
    optimal = passing("bridge-optimal", episodes - episodes // 2, task.spec.episode_limit)
    random = Stream("bridge-random").integers(task.spec.space.action_dim, (len(optimal), episodes // 2, optimal.shape[2]))
    return record(task, np.concatenate([random, optimal], 1), "first half uniformly random, second half that of bridge-optimal")


def passing(name: str, episodes: int, limit: int) -> np.ndarray:
    """Joint actions [limit, episodes, 2] that end an episode of Bridge after 8 steps, optimally or nearly optimally."""
    stream = Stream(name)
    aside = np.array([[[LETTERS[x] for x in plan] for plan in pair] for pair in ASIDE])[stream.integers(len(ASIDE), (episodes,))]
    across = np.array([[LETTERS[x] for x in plan] for plan in ACROSS])[stream.integers(len(ACROSS), (episodes,))]
    idle = np.array(AT_GOAL)[stream.integers(len(AT_GOAL), (episodes, across.shape[1]))]
    left = np.concatenate([aside, np.stack([across, idle], 1)], 2)  # [episodes, 2, 8]
    actions = np.where(stream.integers(2, (episodes, 1, 1)) == 0, left, MIRROR[left[:, ::-1]]).transpose(2, 0, 1)
    return np.concatenate([actions, np.zeros((limit - len(actions), episodes, 2), np.int64)])


def record(task: Task, actions: np.ndarray, behavior: str) -> Dataset:
    """The episodes that the joint actions [limit, E, N] produce; actions after an episode's end are ignored."""
    episodes = actions.shape[1]
    env, seeds = task.make(episodes), np.arange(episodes)
    observations, rewards, over = [env.reset(seeds)], [], [np.zeros(episodes, bool)]
    for act in actions:
        step = env.step(act)
        observations.append(step.observation)
        rewards.append(step.rewards)
        over.append(step.terminated | step.truncated)
    env.close()
    obs, state, avail = (np.stack(x, 1) for x in zip(*observations, strict=True))
    return pack(
        task,
        lengths=(~np.array(over)).sum(0),
        obs=obs,
        state=state,
        avail=avail,
        actions=actions.swapaxes(0, 1),
        rewards=np.stack(rewards, 1),
        terminated=step.terminated,
        won=np.full(episodes, -1),
        seed=seeds,
        source=BUILT,
        behaviour=behavior,
    )


def collected(task: Task, episodes: int = 0) -> Dataset:
    """Episodes of the shipped policies, see datasets.collect."""
    from inspo_benchmark.datasets import collect  # imports the simulators, which the other builders do not need

    return getattr(collect, task.family)(task, episodes)


BUILDERS: dict[str, Callable[..., Dataset]] = {  # Task.family -> builder of (task, number of episodes, optional)
    "xor": xor,
    "mne": mne,
    "bridge": bridge,
    "smac": collected,
    "mamujoco": collected,
}
