"""python -m tools.behavior.mappo: train a behavior policy of a SMAC map online, and save policies during the training.

MAPPO (Yu et al. 2022, arXiv:2103.01955): PPO for agents that share a network, with a centralized critic of the state. The learning rate,
gamma, lambda, the entropy bonus and the clipping of gradients are those of the paper's code for SMAC. Different are, among others:
feed-forward networks, standardized inputs instead of layer normalization, a learning rate that decays linearly to 0, batches of whole
episodes, which bootstrap at the time limit, five passes over a batch in four minibatches each, and values that are not clipped.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from inspo_benchmark.core.atomic_io import DamagedFile, load_checked, save_checked, write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.datasets.behavior.policy import Net, Policy, rounded, save
from inspo_benchmark.datasets.behavior.rollout import Episodes, rollout
from inspo_benchmark.datasets.behavior.smac_policy import kernel
from inspo_benchmark.envs.smac.maps import Map, find_map
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import RewardConfig, default_reward_config
from inspo_benchmark.learning.train import keep_freed_memory
from inspo_benchmark.tools.behavior.training import command, save_steps

GAMMA, GAE_LAMBDA = 0.99, 0.95
LEARNING_RATE, ENTROPY_COEF, MAX_GRAD_NORM = 5e-4, 0.01, 10.0
EPOCHS, MINIBATCHES = 5, 4  # passes over a batch, gradient steps per pass
CLIP_RANGES = {"5m_vs_6m": 0.05, "8m_vs_9m": 0.05, "3s_vs_5z": 0.1, "3s5z_vs_3s6z": 0.05}  # otherwise 0.2
KITING = {"3s_vs_4z", "3s_vs_5z", "6h_vs_8z"}  # maps that are won by keeping a distance
SIGNED_REWARD = KITING  # reward_only_positive=False, because policies exploited the reward for recovering shields
INITIAL_ENEMY_SPEED = dict.fromkeys(KITING, 0.6)  # initial fraction of the enemies' speed, so that keeping a distance pays
SPEED_INCREMENT = 0.01  # change of this fraction per batch: + if all episodes are won, - if none is; it stays at most 1
HIDDEN_DIM, CRITIC_HIDDEN_DIM = 64, 128
BATCH_STEPS = 4096  # approximate steps per batch; the number of episodes follows from the mean length in the last batch
MIN_STD = 0.1  # least standard deviation for standardizing an input, so that rare features do not dominate
EVAL_EPISODES = 320  # per saved policy, both sampled and greedy
SAVES = 250  # policies saved at equal distances, after the early ones
CHECKPOINT_INTERVAL = 60.0  # seconds between checkpoints of the training
EVAL_SEED = 1 << 40  # seed of the first evaluation episode

EXAMPLES = """examples:
  python -m tools.behavior.mappo 3m --steps 1e6 --seed 0 --out trained/3m-0
  python -m tools.behavior ship 3m trained/3m-*

The same command resumes an interrupted training.
"""


class RunningNormalizer:
    """Standardizes inputs by the mean and standard deviation of all rows so far; the policy's file folds it into the first layer."""

    def __init__(self, width: int):
        self.count, self.mean, self.square = 0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """x [rows, width]"""
        share = len(x) / (self.count + len(x))
        x = x.double()
        self.mean = self.mean + share * (x.mean(0) - self.mean)
        self.square = self.square + share * ((x**2).mean(0) - self.square)
        self.count += len(x)

    @property
    def std(self) -> Tensor:
        return (self.square - self.mean**2).clamp(min=MIN_STD**2).sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean.float()) / self.std.float()


class ReturnNormalizer:
    """Moving mean and standard deviation of the returns, the unit of the critic's outputs."""

    DECAY = 0.99  # per batch

    def __init__(self):
        self.weight, self.mean, self.square = 0.0, 0.0, 0.0

    def update(self, x: Tensor) -> None:
        self.weight += (1 - self.DECAY) * (1 - self.weight)
        share = (1 - self.DECAY) / self.weight
        self.mean += share * (float(x.mean()) - self.mean)
        self.square += share * (float((x**2).mean()) - self.square)

    @property
    def std(self) -> float:
        return math.sqrt(max(self.square - self.mean**2, 1e-4))


def network(inputs: int, hidden: int, outputs: int, last: float) -> nn.Sequential:
    """Two hidden layers with ReLU. Orthogonal weights, with gain sqrt 2 in hidden layers and `last` in the last one; zero biases."""
    layers = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)
    for layer, advantage in zip(layers, (math.sqrt(2), math.sqrt(2), last), strict=True):
        nn.init.orthogonal_(layer.weight, advantage)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class SlowedSmac(Smac):
    """Battles in which enemies walk at a fraction of their speed."""

    def __init__(self, name: str, num_envs: int, reward_config: RewardConfig, speed: float):
        super().__init__(name, num_envs, reward_config=reward_config)
        kinds = self.battles.field.kinds.copy()
        kinds["step"][self.map.n :] *= speed
        self.battles.field = self.battles.field._replace(kinds=kinds)


class Mappo:
    """The state of one training: networks, optimizers, normalizers and progress."""

    def __init__(self, map: Map, total: int, seed: int):
        torch.manual_seed(seed)
        self.map, self.total, self.seed = map, total, seed
        self.actor, self.critic = network(map.obs + map.n, HIDDEN_DIM, map.actions, 0.01), network(map.state, CRITIC_HIDDEN_DIM, 1, 1.0)
        self.adam = [torch.optim.Adam(net.parameters(), LEARNING_RATE, eps=1e-5, fused=True) for net in (self.actor, self.critic)]
        self.obs, self.state, self.value = RunningNormalizer(map.obs), RunningNormalizer(map.state), ReturnNormalizer()
        self.clip = CLIP_RANGES.get(map.name, 0.2)
        self.steps, self.episodes, self.saved = 0, 0, 0
        self.num_envs = BATCH_STEPS // map.limit
        self.speed = INITIAL_ENEMY_SPEED.get(map.name, 1.0)
        self.marks = 0, 0  # number of save points passed, tenths of the win rate reached in training

    def policy(self) -> Policy:
        """The actor with the standardization folded into its first layer: W (x - m) / s + b = (W / s) x + (b - W m / s)."""
        (w1, b1, w2, b2, w3, b3) = (p.detach().double() for p in self.actor.parameters())
        scaled = w1[:, : self.map.obs] / self.obs.std
        first = torch.cat([scaled, w1[:, self.map.obs :]], 1), b1 - scaled @ self.obs.mean
        net = Net(*(np.ascontiguousarray(p.numpy().T, np.float32) for p in (*first, w2, b2, w3, b3)))
        return Policy(self.map.name, net, self.steps, self.seed)

    def learn(self, batch: Episodes) -> None:
        """Train on one batch. Agents with a single available action (dead ones) are left out."""
        if not self.obs.count:  # the first batch also initializes the normalizers
            self.update(batch)
        obs, state, avail = (torch.from_numpy(x) for x in (batch.obs, batch.state, batch.avail))
        now = torch.from_numpy(batch.now)
        state = self.state(state)
        with torch.no_grad():
            values = self.critic(state)[:, 0] * self.value.std + self.value.mean
        advantage = np.empty(len(batch.rewards))
        advantages(batch.rewards, values.double().numpy(), batch.offset, batch.terminated, advantage)
        advantage = torch.from_numpy(advantage).float()
        target = advantage + values[now]
        self.value.update(target)
        target = (target - self.value.mean) / self.value.std

        random = torch.Generator().manual_seed(self.seed + self.steps)
        acting = (avail[now].sum(-1) > 1).nonzero()
        step, agent = acting[torch.randperm(len(acting), generator=random)].T
        ids = F.one_hot(agent, self.map.n).float()
        x = torch.cat([self.obs(obs[now[step], agent]), ids], 1)
        avail = avail[now[step], agent]
        action, logp = (torch.from_numpy(y)[step, agent] for y in (batch.actions, batch.logp))
        advantage = ((advantage - advantage.mean()) / (advantage.std() + 1e-5))[step]
        order = torch.randperm(len(now), generator=random)
        actor_rows, critic_rows = (x, avail, action, logp, advantage), (state[now[order]], target[order])

        for adam in self.adam:
            adam.param_groups[0]["lr"] = LEARNING_RATE * (1 - self.steps / self.total)
        for _ in range(EPOCHS):  # rows were shuffled once, so that minibatches are slices
            for x, avail, action, logp, advantage in zip(*(y.chunk(MINIBATCHES) for y in actor_rows), strict=True):
                logits = self.actor(x)
                grad = torch.empty_like(logits)
                surrogate(*(y.numpy() for y in (logits.detach(), avail, action, logp, advantage)), self.clip, grad.numpy())
                self.gradient_step(0, logits, grad)
            for state, target in zip(*(y.chunk(MINIBATCHES) for y in critic_rows), strict=True):
                v = self.critic(state)[:, 0]
                self.gradient_step(1, v, (v.detach() - target).clamp(-1, 1) / len(v))  # Huber loss
        self.update(batch)
        self.steps += len(batch.rewards)
        self.episodes += len(batch.won)
        self.num_envs = max(8, BATCH_STEPS // round(batch.lengths.mean()))
        self.speed = min(
            1.0, max(INITIAL_ENEMY_SPEED.get(self.map.name, 1.0), self.speed + SPEED_INCREMENT * (2 * float(batch.won.mean()) - 1))
        )

    def gradient_step(self, which: int, output: Tensor, grad: Tensor) -> None:
        """One step of the actor (0) or the critic (1); `grad` is the loss's gradient with respect to the network's output."""
        self.adam[which].zero_grad()
        output.backward(grad)
        nn.utils.clip_grad_norm_(self.adam[which].param_groups[0]["params"], MAX_GRAD_NORM)
        self.adam[which].step()

    def update(self, batch: Episodes) -> None:
        """Update the normalizers of the inputs; agents with a single available action are left out."""
        acting = batch.avail.sum(-1) > 1
        self.obs.update(torch.from_numpy(batch.obs[acting]))
        self.state.update(torch.from_numpy(batch.state))

    # --- checkpoints

    PLAIN_FIELDS = ("total", "seed", "steps", "episodes", "num_envs", "speed", "saved", "marks")

    def dump(self) -> dict[str, Any]:
        nets = {"actor": self.actor.state_dict(), "critic": self.critic.state_dict(), "adam": [x.state_dict() for x in self.adam]}
        norms = {name: dict(vars(getattr(self, name))) for name in ("obs", "state", "value")}
        return {"map": self.map.name, **{name: getattr(self, name) for name in self.PLAIN_FIELDS}, **nets, **norms}

    def restore(self, x: dict[str, Any]) -> None:
        """UserError: the checkpoint is another training's."""
        if (x["map"], x["total"], x["seed"]) != (self.map.name, self.total, self.seed):
            raise UserError(f"{x['map']} --steps {x['total']} --seed {x['seed']}")
        self.actor.load_state_dict(x["actor"])
        self.critic.load_state_dict(x["critic"])
        for adam, state in zip(self.adam, x["adam"], strict=True):
            adam.load_state_dict(state)
        for name in ("obs", "state", "value"):
            vars(getattr(self, name)).update(x[name])
        for name in self.PLAIN_FIELDS:
            setattr(self, name, x[name])


@kernel
def surrogate(logits, avail, action, logp, advantage, clip, grad):
    """Gradient of PPO's loss, the mean of -min(r A, clamp(r, 1 - clip, 1 + clip) A) - ENTROPY_COEF H(p), with respect to the logits z.

    p = softmax z over the available actions, r = p_a / p_old_a. The gradient is ENTROPY_COEF p (ln p + H) and, unless clipped,
    -r A (1[a] - p).
    """
    rows = len(logits)
    for i in range(rows):
        z, p, a = logits[i], grad[i], action[i]
        top, total, mean = np.float32(-np.inf), np.float32(0), np.float32(0)
        for b in range(len(z)):
            if avail[i, b]:
                top = max(top, z[b])
        for b in range(len(z)):
            p[b] = math.exp(z[b] - top) if avail[i, b] else np.float32(0)
            total += p[b]
        for b in range(len(z)):
            p[b] /= total
            mean += p[b] * (z[b] - top)
        ratio = math.exp(z[a] - top - math.log(total) - logp[i])
        pull = advantage[i] * ratio if (ratio < 1 + clip if advantage[i] > 0 else ratio > 1 - clip) else 0.0
        for b in range(len(z)):
            p[b] = (p[b] * (pull + ENTROPY_COEF * (z[b] - top - mean)) - (pull if b == a else 0.0)) / rows


@kernel
def advantages(rewards, values, offset, terminated, out):
    """Generalized advantage estimation over episodes end to end; truncated episodes bootstrap from the value of their last state."""
    for e in range(len(terminated)):
        after = 0.0
        for t in range(offset[e + 1] - 1, offset[e] - 1, -1):
            over = terminated[e] and t == offset[e + 1] - 1
            error = rewards[t] + (0.0 if over else GAMMA * values[t + e + 1]) - values[t + e]
            after = error + GAMMA * GAE_LAMBDA * after
            out[t] = after


def measure(env: Smac, policy: Policy, first_seed: int = EVAL_SEED) -> tuple[Policy, str]:
    """The policy as it will be saved, with its win rates and returns, and a line about them; one episode per environment."""
    policy, seeds = policy._replace(net=rounded(policy.net)), np.arange(first_seed, first_seed + env.num_envs)
    (won, earned, length), (greedy_won, greedy_earned, greedy_length) = (
        [float(x.mean()) for x in (batch.won, batch.returns, batch.lengths)]
        for batch in (rollout(env, policy, seeds), rollout(env, policy, seeds, greedy=True))
    )
    policy = policy._replace(win_rate=won, mean_return=earned, greedy_win_rate=greedy_won, greedy_return=greedy_earned)
    return policy, (
        f"win rate {won:.3f} (greedy {greedy_won:.3f})  return {earned:.2f} (greedy {greedy_earned:.2f})  "
        f"length {length:.0f} (greedy {greedy_length:.0f})"
    )


def train(map: Map, total: int, seed: int, folder: Path) -> None:
    """Train for `total` steps; write numbered policies and a checkpoint to the folder. UserError: it holds another training."""
    torch.set_num_threads(1)
    keep_freed_memory()
    run, state = Mappo(map, total, seed), folder / "training.pt"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if state.exists():
        try:
            load_checked(state, run.restore)
        except UserError as e:
            raise UserError(f"{folder} holds another training ({e}): choose another folder, or delete it") from None
        except DamagedFile as e:
            raise UserError(f"{state} is damaged ({e}): delete it to train from the start") from None

    eval_env, when, reward_config = Smac(map.name, EVAL_EPISODES), save_steps(total, SAVES), default_reward_config(map)
    if map.name in SIGNED_REWARD:
        reward_config = reward_config._replace(only_positive=False)
    bar = tqdm(total=total, initial=run.steps, unit="step", unit_scale=True, disable=not sys.stderr.isatty(), desc=map.name)
    level, wrote = 0, time.monotonic()
    while True:
        marks = sum(point <= run.steps for point in when), max(level, run.marks[1])
        if marks > run.marks or time.monotonic() - wrote > CHECKPOINT_INTERVAL:
            if marks > run.marks:
                policy, line = measure(eval_env, run.policy())
                save(policy, folder / f"policy-{run.saved:03}.npz")
                speed = "" if run.speed == 1 else f"  (in training, enemies at {run.speed:.3f} of their speed)"
                tqdm.write(f"{map.name} {run.saved:03}  steps {run.steps:>10,}  {line}{speed}")
                sys.stdout.flush()
                run.saved, run.marks = run.saved + 1, marks
            save_checked(run.dump(), state)
            wrote = time.monotonic()
        if run.steps >= total:
            break
        batch = rollout(
            SlowedSmac(map.name, run.num_envs, reward_config, run.speed),
            run.policy(),
            np.arange(run.episodes, run.episodes + run.num_envs),
            seed,
        )
        run.learn(batch)
        level = int(10 * batch.won.mean()) if run.speed == 1 else 0
        bar.update(len(batch.rewards))
    bar.close()


def main(argv: list[str] | None = None) -> int:
    return command(
        lambda name, *rest: train(find_map(name), *rest),
        argv,
        module="tools.behavior.mappo",
        description="Train a behavior policy on a SMAC map (embedded simulator, one core).",
        name=("map", "a SMAC map or a SMACv2 scenario, e.g. 3m"),
        steps=10e6,
        examples=EXAMPLES,
    )


if __name__ == "__main__":
    sys.exit(main())
