"""python -m tools.behavior.masac: train a behaviour policy of a robot online and save it along the way.

Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905) for a team: every agent has a policy of its own that sees what the agent sees;
two critics, in training only, see the state and all actions.

    y = r + gamma (1 - terminal) (min_k Q'_k(s', a') - alpha sum_i log pi_i(a'_i | o'_i)),   a'_i ~ pi_i(o'_i)
    L(Q_k) = E (Q_k(s, a) - y)^2,   L(pi) = E[ alpha sum_i log pi_i(a_i | o_i) - min_k Q_k(s, a) ],   a_i ~ pi_i(o_i)
    L(alpha) = -alpha E[ sum_i log pi_i(a_i | o_i) + H ],   H = - number of joints

Steps are those of the robots, PARALLEL at a time, with an update for every RATIO of them.
"""

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from tqdm import tqdm

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.types import Batch, Draw, Spec, State
from inspo_benchmark.datasets.behavior import mujoco_policy
from inspo_benchmark.datasets.behavior.play import play
from inspo_benchmark.datasets.behavior.smac_policy import Net, Policy, rounded, save
from inspo_benchmark.envs.mamujoco import LIMIT, Arrays, Lanes, MaMujoco, View, shapes, split
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, unflatten
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS
from inspo_benchmark.learning.train import prepare_update
from inspo_benchmark.tools.behavior.training import command, points

PARALLEL, RATIO = 16, 4
START = 10_000  # steps of uniformly random actions before the first update
RAW = {"Ant"}  # whose contact forces hardly exist in random play, and would be enormous in its units
LEAST = 1e-3  # standard deviation by which an input is divided
EPISODES = 16  # played by each policy that is saved, sampled and greedy
LATE = 50  # equal parts of the steps after which policies are saved, once there were a few
EVALUATION = 1 << 30  # seeds of the episodes that measure
WIDE = 128  # hidden units of a critic

EXAMPLES = """example:
  python -m tools.behavior.masac hopper_3x1 --steps 1e6 --out trained/hopper_3x1
  python -m datasets.behavior ship hopper_3x1 trained/hopper_3x1
"""


class Temperature(nn.Module):
    """log alpha"""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(1))

    def forward(self):
        return self.log.exp()


class MASAC(Algorithm):
    @dataclass(frozen=True)
    class Config(Valued):
        lr: float = 3e-4
        batch_size: int = 256
        max_grad_norm: float = 1e9

    def nets(self):
        c, n, a = self.cfg, self.spec, self.space
        joint = n.state_dim + n.num_agents * a.d
        critics = {name: AgentNet(1, joint, WIDE, 1, share=False) for name in ("q1", "q2")}
        return dict(pi=AgentNet(n.num_agents, n.obs_dim, c.hidden_dim, a.params_dim, share=False), alpha=Temperature()) | critics

    def noise(self):
        return {name: (self.cfg.batch_size, 1, self.spec.num_agents, self.space.d) for name in ("now", "next")}

    def drawn(self, f, view, u):  # actions [B, L, N, D], sum of their log-probabilities [B, L]
        h = f.pi(view.obs)
        a = self.space.sample(h, view.avail, u)
        mean, log_std = self.space.gaussian(h)
        z = torch.special.ndtri(u)  # log pi of a = tanh x, with log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x))
        x = mean + log_std.exp() * z
        squash = 2 * (math.log(2) - x - nn.functional.softplus(-2 * x))
        return a, (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi) - squash).sum((-1, -2))

    def values(self, f, view, a):  # of both critics [B, L]
        x = torch.cat([view.state, a.flatten(-2)], -1)[..., None, :]
        return [q(x)[..., 0, 0] for q in (f.q1, f.q2)]

    def critic_loss(self, on, tg, b, y):
        return sum(((q - y) ** 2).mean() for q in self.values(on, b.now, b.now.actions))

    def policy_loss(self, on, tg, b, u):
        a, logp = self.drawn(on, b.now, u)
        return (on.alpha() * logp - torch.minimum(*self.values(on, b.now, a))).mean()

    def alpha_loss(self, on, tg, b, u):
        _, logp = self.drawn(on, b.now, u)
        return -(on.alpha() * (logp - self.spec.num_agents * self.space.d).detach()).mean()

    def update(self, s: State, b: Batch, d: Draw):
        on = self.online(s)
        a, logp = self.drawn(on, b.next, d.u["next"])
        v = torch.minimum(*self.values(self.targets(s), b.next, a)) - on.alpha() * logp
        s, critic = self.gradient_step(s, "q1 q2", self.critic_loss, b, b.rewards + self.cfg.gamma * (1 - b.terminated) * v)
        s, policy = self.gradient_step(s, "pi", self.policy_loss, b, d.u["now"])
        s, _ = self.gradient_step(s, "alpha", self.alpha_loss, b, d.u["now"])
        return self.update_targets(s, "q1 q2"), dict(critic=critic, policy=policy, alpha=on.alpha().mean())

    def action_params(self, f, obs, memory):
        return f.pi(obs), memory


class Norm(NamedTuple):
    """x -> (x - mean) / std"""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Norm":
        return cls(rows.mean(0, dtype=float).astype("f4"), rows.std(0, dtype=float).clip(LEAST).astype("f4"))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.std


class Buffer:
    """All transitions of the training. Observations and states are shown standardised, once `fit` has looked at them."""

    def __init__(self, room: int, spec: Spec, see: View):
        self.see, self.count = see, 0
        self.obs, self.atomic_write = (
            Norm(np.zeros(size, "f4"), np.ones(size, "f4")) for size in ((spec.num_agents, spec.obs_dim), (spec.state_dim,))
        )
        self.state, self.after = (np.empty((room, spec.state_dim), np.float32) for _ in range(2))
        self.act = np.empty((room, spec.num_agents, spec.space.d), np.float32)
        self.rew, self.done = np.empty(room, np.float32), np.empty(room, np.float32)

    def add(self, **rows: np.ndarray) -> None:
        k = self.count
        self.count += len(rows["rew"])
        for name, x in rows.items():
            getattr(self, name)[k : self.count] = x

    def fit(self) -> None:
        state = self.state[: self.count]
        self.obs, self.atomic_write = Norm.of(self.see(state)), Norm.of(state)

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Transitions drawn uniformly, as windows of one step of one run."""
        k = rng.integers(self.count, size=size)
        state = np.stack([self.state[k], self.after[k]], 1)
        act = np.stack([self.act[k]] * 2, 1)
        rows = (
            self.obs(self.see(state)),
            self.atomic_write(state),
            np.ones((*act.shape[:3], 1), bool),
            act,
            self.rew[k, None],
            self.done[k, None],
            np.ones((size, 1), "f4"),
        )
        return Batch(*(torch.from_numpy(x)[None] for x in rows))


def uniforms(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.random(shape).clip(*UNIFORM_BOUNDS)).float()


def policy(algorithm: MASAC, s: State, norm: Norm, name: str, steps: int) -> Policy:
    """The actors with their standardisation folded in: W (x - m) / s + b = (W / s) x + (b - W m / s)."""
    w = unflatten(algorithm.modules["pi"], s.params["pi"][0])
    first, bias, *others = (w[f"{layer}.{kind}"].numpy() for layer in ("first", "second", "last") for kind in ("weight", "bias"))
    first = first / norm.std[..., None]
    bias = bias - np.einsum("no,noh->nh", norm.mean, first)
    return Policy(name, rounded(Net(first, bias, *others)), steps, math.nan, math.nan)


def measure(env: MaMujoco, trained: Policy, spec: Spec) -> tuple[Policy, str]:
    """The policy with what it earns in an episode per lane, and a line about it."""
    seeds, act = np.arange(EVALUATION, EVALUATION + env.num_envs), partial(mujoco_policy.act, spec=spec)
    (sampled, length), (greedy, _) = (
        (float(x.returns.mean()), float(x.lengths.mean()))
        for x in (play(env, trained, seeds, greedy=g, act=act, draws=spec.space.d) for g in (False, True))
    )
    return trained._replace(mean_return=sampled), f"return {sampled:.0f} (greedy {greedy:.0f})  length {length:.0f}"


def train(name: str, total: int, seed: int, folder: Path) -> None:
    """Numbered policies appear in the folder. The same again on one machine; a training that is stopped begins anew."""
    torch.set_num_threads(1)
    scenario, _ = split(name)
    spec = TASKS.discover()[f"{name}-expert"].spec
    judge = MaMujoco(name, EPISODES)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    algorithm = MASAC(MASAC.Config(), spec)
    s = algorithm.init([seed])
    arrays = Arrays(*map(np.zeros, shapes(scenario, PARALLEL)))
    num_envs = [Lanes(scenario, arrays.part(slice(e, e + 1))) for e in range(PARALLEL)]
    age, born = np.zeros(PARALLEL, int), 0
    rng, buffer, step = np.random.default_rng(seed), Buffer(total + PARALLEL, spec, judge.view), None

    def begin(e: int) -> None:
        nonlocal born
        num_envs[e].reset([born])
        age[e], born = 0, born + 1

    for e in range(PARALLEL):
        begin(e)
    when, saved = points(total, LATE), 0
    bar = tqdm(total=total, unit="step", unit_scale=True, disable=not sys.stderr.isatty(), desc=name)
    while True:
        if sum(point <= buffer.count for point in when) > saved:
            trained, line = measure(judge, policy(algorithm, s, buffer.obs, name, buffer.count), spec)
            save(trained, folder / f"policy-{saved:02}.npz")
            tqdm.write(f"{name} {saved:02}  steps {buffer.count:>10,}  {line}")
            sys.stdout.flush()
            saved = sum(point <= buffer.count for point in when)
        if buffer.count >= total:
            break
        state = arrays.state.astype(np.float32)
        if buffer.count < START:
            act = rng.uniform(-1, 1, (PARALLEL, spec.num_agents, spec.space.d)).astype(np.float32)
        else:
            with torch.no_grad():
                u = uniforms(rng, PARALLEL, spec.num_agents, spec.space.d)
                head = algorithm.online(tree_map(lambda x: x[0], s)).pi(torch.from_numpy(buffer.obs(judge.view(state))))
                act = spec.space.sample(head, torch.ones(1), u).numpy()
        judge.view.command(act, arrays.act)
        for lane in num_envs:
            lane.step()
        age += 1
        buffer.add(state=state, after=arrays.state, act=act, rew=arrays.reward, done=arrays.over)
        for e in np.flatnonzero((arrays.over > 0) | (age == LIMIT)):
            begin(e)
        bar.update(PARALLEL)
        if buffer.count < START:
            continue
        if step is None and scenario.robot not in RAW:
            buffer.fit()
        for _ in range(PARALLEL // RATIO):
            batch = buffer.batch(algorithm.cfg.batch_size, rng)
            u = {k: uniforms(rng, 1, *shape) for k, shape in algorithm.noise().items()}
            draw = Draw(u, torch.zeros(1, dtype=torch.int64))
            if step is None:
                step = prepare_update(algorithm.pack(1), (s, batch, draw), total // RATIO)
            with torch.no_grad():
                s, logs = step(s, batch, draw)
        if not logs["critic"].isfinite().all():
            raise UserError(f"{name}: the critic's loss is {float(logs['critic'])} after {buffer.count} steps; try another --seed")
    bar.close()
    judge.close()


def main(argv: list[str] | None = None) -> int:
    return command(
        train,
        argv,
        module="tools.behavior.masac",
        what="Train a behaviour policy of a robot (multi-agent MuJoCo, one core).",
        name=("scenario", "a scenario, e.g. hopper_3x1 or halfcheetah_6x1_obsk1"),
        steps=("the robots", 1e6),
        examples=EXAMPLES,
    )


if __name__ == "__main__":
    sys.exit(main())
