"""python -m tools.behavior.mappo: train a behaviour policy online in the simulator and save it along the way.

MAPPO (Yu et al. 2022, arXiv:2103.01955): PPO for agents that share a network, with a critic that sees the state. Its settings for SMAC,
except that the networks are feed-forward, inputs are standardised instead of layer-normalised, the learning rate falls to 0, and a batch
is whole episodes.
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
from inspo_benchmark.datasets.behavior.play import Episodes, play
from inspo_benchmark.datasets.behavior.smac_policy import Net, Policy, kernel, rounded, save
from inspo_benchmark.envs.smac.maps import Map, find
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import Terms, default_terms
from inspo_benchmark.tools.behavior.training import command, points

GAMMA, LAMBDA = 0.99, 0.95
RATE, ENTROPY, NORM = 5e-4, 0.01, 10.0
EPOCHS, PARTS = 5, 4  # passes over a batch, updates in a pass
CLIP = {"5m_vs_6m": 0.05, "8m_vs_9m": 0.05, "3s_vs_5z": 0.1, "3s5z_vs_3s6z": 0.05}  # otherwise 0.2
STRICT = {"3s_vs_5z", "6h_vs_8z"}  # SMAC's reward_only_positive=False: the default pays for shields that recover, and was milked
SLOW = {"6h_vs_8z": 0.6}  # share of their speed at which enemies walk at first, so that keeping away pays
PACE = 0.01  # that this share gains by a batch in which all is won, and loses by one in which nothing is; at most 1
HIDDEN, CRITIC = 64, 128  # hidden units of the policy and of the critic
BATCH = 4096  # steps, about: as many episodes as make so many if they are as long as the last ones
LEAST = 0.1  # standard deviation by which an input is divided, or the first sight of something rare would be all there is
EPISODES = 256  # played by each policy that is saved, sampled and greedy
LATE = 20  # equal parts of the steps after which policies are saved, once there were a few
SAVE = 60.0  # seconds between checkpoints of the training itself
EVALUATION = 1 << 40  # seeds of the episodes that measure

EXAMPLES = """examples:
  python -m tools.behavior.mappo 3m --steps 5e6 --out trained/3m
  python -m datasets.behavior ship 3m trained/3m

A training that was interrupted goes on where it was when the same command is given again.
"""


class Norm:
    """Mean and standard deviation of all rows seen so far."""

    def __init__(self, width: int):
        self.count, self.mean, self.square = 0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)

    def see(self, x: Tensor) -> None:
        """x [rows, width]"""
        share = len(x) / (self.count + len(x))
        x = x.double()
        self.mean = self.mean + share * (x.mean(0) - self.mean)
        self.square = self.square + share * ((x**2).mean(0) - self.square)
        self.count += len(x)

    @property
    def std(self) -> Tensor:
        return (self.square - self.mean**2).clamp(min=LEAST**2).sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean.float()) / self.std.float()


class Value:
    """Mean and standard deviation of recent returns, in which the critic counts."""

    KEEP = 0.99  # of a batch's statistics until the next

    def __init__(self):
        self.weight, self.mean, self.square = 0.0, 0.0, 0.0

    def see(self, x: Tensor) -> None:
        self.weight += (1 - self.KEEP) * (1 - self.weight)
        share = (1 - self.KEEP) / self.weight
        self.mean += share * (float(x.mean()) - self.mean)
        self.square += share * (float((x**2).mean()) - self.square)

    @property
    def std(self) -> float:
        return math.sqrt(max(self.square - self.mean**2, 1e-4))


def network(inputs: int, hidden: int, outputs: int, last: float) -> nn.Sequential:
    """Orthogonal weights, of norm sqrt 2 before a ReLU and `last` at the end; biases 0."""
    layers = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)
    for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), last), strict=True):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class Lesson(Smac):
    """Battles whose enemies walk at a share of their speed."""

    def __init__(self, name: str, num_envs: int, terms: Terms, speed: float):
        super().__init__(name, num_envs, terms=terms)
        kinds = self.battles.field.kinds.copy()
        kinds["step"][self.map.n :] *= speed
        self.battles.field = self.battles.field._replace(kinds=kinds)


class Mappo:
    """One training: networks, what normalises their inputs, and how far it is."""

    def __init__(self, map: Map, total: int, seed: int):
        torch.manual_seed(seed)
        self.map, self.total, self.seed = map, total, seed
        self.actor, self.critic = network(map.obs + map.n, HIDDEN, map.actions, 0.01), network(map.state, CRITIC, 1, 1.0)
        self.adam = [torch.optim.Adam(net.parameters(), RATE, eps=1e-5) for net in (self.actor, self.critic)]
        self.obs, self.state, self.value = Norm(map.obs), Norm(map.state), Value()
        self.clip = CLIP.get(map.name, 0.2)
        self.steps, self.episodes, self.saved = 0, 0, 0
        self.num_envs = BATCH // map.limit
        self.speed = SLOW.get(map.name, 1.0)
        self.marks = 0, 0  # points of saving passed, tenths of the win rate reached in training

    def policy(self) -> Policy:
        """The actor with its standardisation folded in: W (x - m) / s + b = (W / s) x + (b - W m / s)."""
        (w1, b1, w2, b2, w3, b3) = (p.detach().double() for p in self.actor.parameters())
        scaled = w1[:, : self.map.obs] / self.obs.std
        first = torch.cat([scaled, w1[:, self.map.obs :]], 1), b1 - scaled @ self.obs.mean
        net = Net(*(np.ascontiguousarray(p.numpy().T, np.float32) for p in (*first, w2, b2, w3, b3)))
        return Policy(self.map.name, net, self.steps, math.nan, math.nan)

    def learn(self, played: Episodes) -> None:
        """One batch. Agents that have no choice (the dead) teach nothing."""
        if not self.obs.count:  # before anything was learned: what is learned now must know what it looks like
            self.see(played)
        obs, state, avail = (torch.from_numpy(x) for x in (played.obs, played.state, played.avail))
        now = torch.from_numpy(played.now)
        state = self.state(state)
        with torch.no_grad():
            values = self.critic(state)[:, 0] * self.value.std + self.value.mean
        gain = np.empty(len(played.rewards))
        advantages(played.rewards, values.double().numpy(), played.offset, played.terminated, gain)
        gain = torch.from_numpy(gain).float()
        target = gain + values[now]
        self.value.see(target)
        target, state = (target - self.value.mean) / self.value.std, state[now]

        step, agent = (avail[now].sum(-1) > 1).nonzero(as_tuple=True)
        who = F.one_hot(agent, self.map.n).float()
        x = torch.cat([self.obs(obs[now[step], agent]), who], 1)
        avail = avail[now[step], agent]
        action, logp = (torch.from_numpy(y)[step, agent] for y in (played.actions, played.logp))
        gain = ((gain - gain.mean()) / (gain.std() + 1e-5))[step]

        for adam in self.adam:
            adam.param_groups[0]["lr"] = RATE * (1 - self.steps / self.total)
        random = torch.Generator().manual_seed(self.seed + self.steps)
        for _ in range(EPOCHS):
            for part in torch.randperm(len(x), generator=random).chunk(PARTS):
                logits = self.actor(x[part])
                slope = torch.empty_like(logits)
                surrogate(
                    *(y.numpy() for y in (logits.detach(), avail[part], action[part], logp[part], gain[part])), self.clip, slope.numpy()
                )
                self.descend(0, logits, slope)
            for part in torch.randperm(len(state), generator=random).chunk(PARTS):
                guess = self.critic(state[part])[:, 0]
                self.descend(1, guess, (guess.detach() - target[part]).clamp(-1, 1) / len(part))  # Huber's loss
        self.see(played)
        self.steps += len(played.rewards)
        self.episodes += len(played.won)
        self.num_envs = max(8, BATCH // round(played.lengths.mean()))
        self.speed = min(1.0, max(SLOW.get(self.map.name, 1.0), self.speed + PACE * (2 * float(played.won.mean()) - 1)))

    def descend(self, which: int, output: Tensor, slope: Tensor) -> None:
        """One step against the gradient; slope: of the loss, at the network's output."""
        self.adam[which].zero_grad()
        output.backward(slope)
        nn.utils.clip_grad_norm_(self.adam[which].param_groups[0]["params"], NORM)
        self.adam[which].step()

    def see(self, played: Episodes) -> None:
        acting = played.avail.sum(-1) > 1
        self.obs.see(torch.from_numpy(played.obs[acting]))
        self.state.see(torch.from_numpy(played.state))

    # --- going on later

    PLAIN = ("total", "seed", "steps", "episodes", "num_envs", "speed", "saved", "marks")

    def dump(self) -> dict[str, Any]:
        nets = {"actor": self.actor.state_dict(), "critic": self.critic.state_dict(), "adam": [x.state_dict() for x in self.adam]}
        norms = {name: dict(vars(getattr(self, name))) for name in ("obs", "state", "value")}
        return {"map": self.map.name, **{name: getattr(self, name) for name in self.PLAIN}, **nets, **norms}

    def restore(self, x: dict[str, Any]) -> None:
        """UserError: that was another training."""
        if (x["map"], x["total"], x["seed"]) != (self.map.name, self.total, self.seed):
            raise UserError(f"{x['map']} --steps {x['total']} --seed {x['seed']}")
        self.actor.load_state_dict(x["actor"])
        self.critic.load_state_dict(x["critic"])
        for adam, state in zip(self.adam, x["adam"], strict=True):
            adam.load_state_dict(state)
        for name in ("obs", "state", "value"):
            vars(getattr(self, name)).update(x[name])
        for name in self.PLAIN:
            setattr(self, name, x[name])


@kernel
def surrogate(logits, avail, action, logp, gain, clip, slope):
    """Gradient at the logits z of the mean of -min(r A, clamp(r, 1 - clip, 1 + clip) A) - ENTROPY H(p), with p = softmax z over what
    is legal, r = p_a / p_old_a: -r A (1[a] - p) unless clipped, and ENTROPY p (ln p + H)."""
    rows = len(logits)
    for i in range(rows):
        z, p, a = logits[i], slope[i], action[i]
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
        pull = gain[i] * ratio if (ratio < 1 + clip if gain[i] > 0 else ratio > 1 - clip) else 0.0
        for b in range(len(z)):
            p[b] = (p[b] * (pull + ENTROPY * (z[b] - top - mean)) - (pull if b == a else 0.0)) / rows


@kernel
def advantages(rewards, values, offset, terminated, out):
    """Generalised advantage estimation over episodes end to end; when the time was up, the last observation's value goes on for ever."""
    for e in range(len(terminated)):
        after = 0.0
        for t in range(offset[e + 1] - 1, offset[e] - 1, -1):
            over = terminated[e] and t == offset[e + 1] - 1
            error = rewards[t] + (0.0 if over else GAMMA * values[t + e + 1]) - values[t + e]
            after = error + GAMMA * LAMBDA * after
            out[t] = after


def measure(env: Smac, policy: Policy) -> tuple[Policy, str]:
    """The policy as it will be saved with what it reaches in an episode per lane, and a line about it."""
    policy, seeds = policy._replace(net=rounded(policy.net)), np.arange(EVALUATION, EVALUATION + env.num_envs)
    (won, earned, length), *greedy = (
        [float(x.mean()) for x in (played.won, played.returns, played.lengths)]
        for played in (play(env, policy, seeds), play(env, policy, seeds, greedy=True))
    )
    numbers = zip(("won", "return", "length"), (won, earned, length), *greedy, strict=True)
    return policy._replace(win_rate=won, mean_return=earned), "  ".join(f"{name} {a:.3g} (greedy {b:.3g})" for name, a, b in numbers)


def train(map: Map, total: int, seed: int, folder: Path) -> None:
    """Numbered policies and the state of the training appear in the folder."""
    torch.set_num_threads(1)
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

    judge, when, terms = Smac(map.name, EPISODES), points(total, LATE), default_terms(map)
    if map.name in STRICT:
        terms = terms._replace(only_positive=False)
    bar = tqdm(total=total, initial=run.steps, unit="step", unit_scale=True, disable=not sys.stderr.isatty(), desc=map.name)
    level, wrote = 0, time.monotonic()
    while True:
        marks = sum(point <= run.steps for point in when), max(level, run.marks[1])
        if marks > run.marks or time.monotonic() - wrote > SAVE:
            if marks > run.marks:
                policy, line = measure(judge, run.policy())
                save(policy, folder / f"policy-{run.saved:02}.npz")
                pace = "" if run.speed == 1 else f"  (in training, enemies at {run.speed:.3f} of their speed)"
                tqdm.write(f"{map.name} {run.saved:02}  steps {run.steps:>10,}  {line}{pace}")
                sys.stdout.flush()
                run.saved, run.marks = run.saved + 1, marks
            save_checked(run.dump(), state)
            wrote = time.monotonic()
        if run.steps >= total:
            break
        played = play(
            Lesson(map.name, run.num_envs, terms, run.speed), run.policy(), np.arange(run.episodes, run.episodes + run.num_envs), seed
        )
        run.learn(played)
        level = int(10 * played.won.mean()) if run.speed == 1 else 0
        bar.update(len(played.rewards))
    bar.close()


def main(argv: list[str] | None = None) -> int:
    return command(
        lambda name, *rest: train(find(name), *rest),
        argv,
        module="tools.behavior.mappo",
        what="Train a behaviour policy on a SMAC map (embedded simulator, one core).",
        name=("map", "a SMAC map, e.g. 3m"),
        steps=("the environment", 10e6),
        examples=EXAMPLES,
    )


if __name__ == "__main__":
    sys.exit(main())
