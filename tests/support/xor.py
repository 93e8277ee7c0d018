"""Methods trained on one-step XOR data, whose values are known exactly."""

import numpy as np
import torch

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.dataset import pack
from inspo_benchmark.envs.matrix import XOR as PAYOFF
from inspo_benchmark.learning.evaluate import vmap_over_seeds
from inspo_benchmark.learning.sampler import Sampler
from inspo_benchmark.learning.train import TRACE_FROM, prepare_update
from inspo_benchmark.running.settings import settings

A, B = 0, 1
DATA = {  # the joint actions of each dataset, equally often
    "ab": [(A, B)],
    "ab_ba": [(A, B), (B, A)],
    "aa_ab_ba": [(A, A), (A, B), (B, A)],
    "all": [(A, A), (A, B), (B, A), (B, B)],
}


def trained(algo: str, data: str, seeds: int = 1, **overrides):
    """A method with its own settings of the task after training on one-step episodes -> algorithm, state."""
    task = TASKS.discover()[f"xor-{data}"]
    joint = np.array(DATA[data])
    rows = (len(joint), task.spec.episode_limit + 1)
    actions = np.zeros((len(joint), task.spec.episode_limit, 2), np.int64)
    rewards = np.zeros(actions.shape[:2])
    actions[:, 0], rewards[:, 0] = joint, PAYOFF[tuple(joint.T)]
    dataset = pack(
        task,
        lengths=np.ones(len(joint), int),
        obs=np.ones((*rows, 2, task.spec.obs_dim)),
        state=np.ones((*rows, task.spec.state_dim)),
        avail=np.ones((*rows, 2, 2), bool),
        actions=actions,
        rewards=rewards,
        terminated=np.ones(len(joint), bool),
        won=np.full(len(joint), -1),
        seed=np.full(len(joint), -1),
    )
    cfg = settings(algo, task.name, overrides)
    algorithm = ALGORITHMS[algo](cfg, task.spec)
    seeds = range(seeds)
    sampler = Sampler(dataset, cfg.batch_size, cfg.seq_len, algorithm.turns, algorithm.noise(), seeds, burn_in=cfg.burn_in)
    s = algorithm.init(seeds)
    step = prepare_update(algorithm.pack(len(seeds)), (s, *sampler.draw(0)), TRACE_FROM)
    with torch.no_grad():
        for call in range(cfg.num_updates * algorithm.turns):
            s, _ = step(s, *sampler.draw(call))
    return algorithm, s


def sampled_actions(algorithm, s, episodes: int = 4000) -> np.ndarray:
    """Joint actions of the stochastic policies, [S, E, N]."""
    seeds, spec = len(s.step), algorithm.spec
    u = torch.as_tensor(np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, (seeds, episodes, 2, *algorithm.acting_noise_shape)))
    obs, avail = torch.ones(seeds, episodes, 2, spec.obs_dim), torch.ones(seeds, episodes, 2, 2, dtype=torch.bool)
    act = vmap_over_seeds(algorithm.act_sampled, algorithm, seeds)
    with torch.no_grad():
        return act(algorithm.acting_params(s), obs, avail, algorithm.init_hidden(seeds, episodes), u)[0].numpy()


def trained_value(algo: str, data: str, **overrides) -> float:
    """The mean payoff of sampled actions after training, over seeds."""
    return float(PAYOFF[tuple(np.moveaxis(sampled_actions(*trained(algo, data, **overrides)), -1, 0))].mean())
