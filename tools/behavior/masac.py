"""python -m tools.behavior.masac: train a behavior policy of a MuJoCo scenario online, and save policies during the training.

Multi-agent soft actor-critic (after Haarnoja et al. 2018, arXiv:1812.05905): every agent has its own policy of its observation; two
centralized critics take the state and all actions.

    y = r + gamma (1 - terminal) (min_k Q'_k(s', a') - alpha sum_i log pi_i(a'_i | o'_i)),   a'_i ~ pi_i(o'_i)
    L(Q_k) = E (Q_k(s, a) - y)^2,   L(pi) = E[ alpha sum_i log pi_i(a_i | o_i) - min_k Q_k(s, a) ],   a_i ~ pi_i(o_i)
    L(alpha) = -alpha E[ sum_i log pi_i(a_i | o_i) + H ],   H = - number of action dimensions

NUM_ENVS environments step in parallel, with one update per STEPS_PER_UPDATE environment steps.
"""

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
from inspo_benchmark.datasets.behavior.policy import Net, Policy, rounded, save
from inspo_benchmark.datasets.behavior.rollout import rollout
from inspo_benchmark.envs.mamujoco import LIMIT, AgentPartition, MaMujoco, StepArrays, make_physics, parse_name, zero_arrays
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.config import UNCLIPPED, Valued
from inspo_benchmark.learning.nets import AgentNet, unflatten
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS
from inspo_benchmark.learning.train import prepare_update
from inspo_benchmark.tools.behavior.training import command, save_steps

NUM_ENVS, STEPS_PER_UPDATE = 16, 4
RANDOM_STEPS = 10_000  # environment steps with uniformly random actions before the first update
UNNORMALIZED = {"Ant"}  # its contact forces are almost 0 in random play, and would be huge if standardized by it
MIN_STD = 1e-3  # least standard deviation for standardizing an input
EVAL_EPISODES = 16  # per saved policy, both sampled and greedy
SAVES = 50  # policies saved at equal distances, after the early ones
EVAL_SEED = 1 << 30  # seed of the first evaluation episode
CRITIC_HIDDEN_DIM = 128

EXAMPLES = """examples:
  python -m tools.behavior.masac hopper_3x1 --steps 1e6 --out trained/hopper_3x1
  python -m tools.behavior ship hopper_3x1 trained/hopper_3x1
"""


class Temperature(nn.Module):
    """alpha, with the parameter log alpha"""

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
        max_grad_norm: float = UNCLIPPED

    def nets(self):
        spec = self.spec
        joint = spec.state_dim + spec.num_agents * self.space.d
        critics = {name: AgentNet(1, joint, CRITIC_HIDDEN_DIM, 1, share=False) for name in ("q1", "q2")}
        pi = AgentNet(spec.num_agents, spec.obs_dim, self.cfg.hidden_dim, self.space.params_dim, share=False)
        return dict(pi=pi, alpha=Temperature()) | critics

    def noise(self):
        return {name: (self.cfg.batch_size, 1, self.spec.num_agents, self.space.d) for name in ("now", "next")}

    def sample(self, f, x, u):  # actions [B, L, N, D], sum of their log-probabilities [B, L]
        h = f.pi(x.obs)
        return self.space.sample(h, x.avail, u), self.space.sampled_log_prob(h, u).sum(-1)

    def values(self, f, x, a):  # of both critics [B, L]
        state_action = torch.cat([x.state, a.flatten(-2)], -1)[..., None, :]
        return [q(state_action)[..., 0, 0] for q in (f.q1, f.q2)]

    def critic_loss(self, on, tg, b, y):
        return sum(((q - y) ** 2).mean() for q in self.values(on, b.now, b.now.actions))

    def policy_loss(self, on, tg, b, u):
        a, logp = self.sample(on, b.now, u)
        return (on.alpha() * logp - torch.minimum(*self.values(on, b.now, a))).mean()

    def alpha_loss(self, on, tg, b, u):
        _, logp = self.sample(on, b.now, u)
        return -(on.alpha() * (logp - self.spec.num_agents * self.space.d).detach()).mean()

    def update(self, s: State, b: Batch, d: Draw):
        on = self.online(s)
        a, logp = self.sample(on, b.next, d.u["next"])
        v = torch.minimum(*self.values(self.targets(s), b.next, a)) - on.alpha() * logp
        s, critic = self.gradient_step(s, "q1 q2", self.critic_loss, b, b.rewards + self.cfg.gamma * (1 - b.terminated) * v)
        s, policy = self.gradient_step(s, "pi", self.policy_loss, b, d.u["now"])
        s, _ = self.gradient_step(s, "alpha", self.alpha_loss, b, d.u["now"])
        return self.update_targets(s, "q1 q2"), dict(critic=critic, policy=policy, alpha=on.alpha().mean())

    def action_params(self, f, obs, memory):
        return f.pi(obs), memory


class Standardizer(NamedTuple):
    """x -> (x - mean) / std, for each agent. Unlike learning's Normalizer it does not clip, so `export` can fold it into the actors."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Standardizer":
        return cls(rows.mean(0, dtype=float).astype("f4"), rows.std(0, dtype=float).clip(MIN_STD).astype("f4"))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.std


class Buffer:
    """All transitions of the training. After `fit`, batches are standardized by the statistics of the transitions until then."""

    def __init__(self, capacity: int, spec: Spec, partition: AgentPartition):
        self.partition, self.count = partition, 0
        self.normalize_obs, self.normalize_state = (
            Standardizer(np.zeros(size, "f4"), np.ones(size, "f4")) for size in ((spec.num_agents, spec.obs_dim), (spec.state_dim,))
        )
        self.state, self.next_state = (np.empty((capacity, spec.state_dim), np.float32) for _ in range(2))
        self.actions = np.empty((capacity, spec.num_agents, spec.space.d), np.float32)
        self.rewards, self.terminated = np.empty(capacity, np.float32), np.empty(capacity, np.float32)

    def add(self, **rows: np.ndarray) -> None:
        """Append transitions: state, next_state, actions, rewards, terminated."""
        k = self.count
        self.count += len(rows["rewards"])
        for name, x in rows.items():
            getattr(self, name)[k : self.count] = x

    def fit(self) -> None:
        state = self.state[: self.count]
        self.normalize_obs, self.normalize_state = Standardizer.of(self.partition.observe(state)), Standardizer.of(state)

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Uniformly sampled transitions, as sequences of length 1, with a leading axis of one seed."""
        k = rng.integers(self.count, size=size)
        state = np.stack([self.state[k], self.next_state[k]], 1)
        actions = np.stack([self.actions[k]] * 2, 1)
        rows = (
            self.normalize_obs(self.partition.observe(state)),
            self.normalize_state(state),
            np.ones((*actions.shape[:3], 1), bool),
            actions,
            self.rewards[k, None],
            self.terminated[k, None],
            np.ones((size, 1), "f4"),
        )
        return Batch(*(torch.from_numpy(x)[None] for x in rows))


def uniforms(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.random(shape).clip(*UNIFORM_BOUNDS)).float()


def export(algorithm: MASAC, s: State, norm: Standardizer, name: str, steps: int, seed: int) -> Policy:
    """The actors with the standardization folded into their first layers: W (x - m) / s + b = (W / s) x + (b - W m / s)."""
    w = unflatten(algorithm.modules["pi"], s.params["pi"][0])
    first, bias, *others = (w[f"{layer}.{kind}"].numpy() for layer in ("first", "second", "last") for kind in ("weight", "bias"))
    first = first / norm.std[..., None]
    bias = bias - np.einsum("no,noh->nh", norm.mean, first)
    return Policy(name, rounded(Net(first, bias, *others)), steps, seed)


def measure(env: MaMujoco, trained: Policy, spec: Spec) -> tuple[Policy, str]:
    """The policy with its mean return, and a line about it; one episode per environment."""
    seeds, act = np.arange(EVAL_SEED, EVAL_SEED + env.num_envs), partial(mujoco_policy.act, spec=spec)
    (sampled, length), (greedy, _) = (
        (float(x.returns.mean()), float(x.lengths.mean()))
        for x in (rollout(env, trained, seeds, greedy=g, act=act, draws=spec.space.d) for g in (False, True))
    )
    return trained._replace(mean_return=sampled, greedy_return=greedy), f"return {sampled:.0f} (greedy {greedy:.0f})  length {length:.0f}"


def train(name: str, total: int, seed: int, folder: Path) -> None:
    """Train for `total` steps and write numbered policies to the folder. Results are reproducible on one machine; there is no resuming.
    UserError: the folder holds another training."""
    torch.set_num_threads(1)
    scenario, _ = parse_name(name)
    spec = TASKS.discover()[f"{name}-expert"].spec
    eval_env = MaMujoco(name, EVAL_EPISODES)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("policy-*.npz")):
        raise UserError(f"{folder} holds another training: choose another folder, or delete it")
    algorithm = MASAC(MASAC.Config(), spec)
    s = algorithm.init([seed])
    arrays = zero_arrays(scenario, NUM_ENVS)
    envs = [make_physics(scenario, StepArrays(*(x[e : e + 1] for x in arrays))) for e in range(NUM_ENVS)]
    age, next_seed = np.zeros(NUM_ENVS, int), 0
    rng, buffer, update = np.random.default_rng(seed), Buffer(total + NUM_ENVS, spec, eval_env.partition), None

    def reset(e: int) -> None:
        nonlocal next_seed
        envs[e].reset([next_seed])
        age[e], next_seed = 0, next_seed + 1

    for e in range(NUM_ENVS):
        reset(e)
    when, saved = save_steps(total, SAVES), 0
    bar = tqdm(total=total, unit="step", unit_scale=True, disable=not sys.stderr.isatty(), desc=name)
    while True:
        if sum(point <= buffer.count for point in when) > saved:
            trained, line = measure(eval_env, export(algorithm, s, buffer.normalize_obs, name, buffer.count, seed), spec)
            save(trained, folder / f"policy-{saved:03}.npz")
            tqdm.write(f"{name} {saved:03}  steps {buffer.count:>10,}  {line}")
            sys.stdout.flush()
            saved = sum(point <= buffer.count for point in when)
        if buffer.count >= total:
            break
        state = arrays.state.astype(np.float32)
        if buffer.count < RANDOM_STEPS:
            act = rng.uniform(-1, 1, (NUM_ENVS, spec.num_agents, spec.space.d)).astype(np.float32)
        else:
            with torch.no_grad():
                u = uniforms(rng, NUM_ENVS, spec.num_agents, spec.space.d)
                obs = buffer.normalize_obs(eval_env.partition.observe(state))
                params = algorithm.online(tree_map(lambda x: x[0], s)).pi(torch.from_numpy(obs))
                act = spec.space.sample(params, torch.ones(1), u).numpy()
        eval_env.partition.write_controls(act, arrays.controls)
        for env in envs:
            env.step()
        age += 1
        buffer.add(state=state, next_state=arrays.state, actions=act, rewards=arrays.rewards, terminated=arrays.terminated)
        for e in np.flatnonzero((arrays.terminated > 0) | (age == LIMIT)):
            reset(e)
        bar.update(NUM_ENVS)
        if buffer.count < RANDOM_STEPS:
            continue
        if update is None and scenario.env_name not in UNNORMALIZED:
            buffer.fit()
        for _ in range(NUM_ENVS // STEPS_PER_UPDATE):
            batch = buffer.batch(algorithm.cfg.batch_size, rng)
            u = {k: uniforms(rng, 1, *shape) for k, shape in algorithm.noise().items()}
            draw = Draw(u, torch.zeros(1, dtype=torch.int64))
            if update is None:
                update = prepare_update(algorithm.pack(1), (s, batch, draw), total // STEPS_PER_UPDATE)
            with torch.no_grad():
                s, logs = update(s, batch, draw)
        if not logs["critic"].isfinite().all():
            raise UserError(f"{name}: the critic's loss is {float(logs['critic'])} after {buffer.count} steps; try another --seed")
    bar.close()
    eval_env.close()


def main(argv: list[str] | None = None) -> int:
    return command(
        train,
        argv,
        module="tools.behavior.masac",
        description="Train a behavior policy of a multi-agent MuJoCo scenario (one core).",
        name=("scenario", "a scenario, e.g. hopper_3x1 or halfcheetah_6x1_obsk1"),
        steps=1e6,
        examples=EXAMPLES,
    )


if __name__ == "__main__":
    sys.exit(main())
