"""Methods that look at whole episodes before training, each a class of a few lines."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import inspo_benchmark as ib
from inspo_benchmark.algorithms.bc import BC
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.datasets.dataset import STATISTICS, concatenate
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.nets import AgentNet
from support.episodes import episodes, same, toy

SMALL = dict(num_updates=200, batch_size=32, progress=False)


class FilteredBC(BC):
    """%BC (Chen et al. 2021): cloning of the episodes with the highest returns."""

    @dataclass(frozen=True)
    class Config(Common):
        share_of_best: float = 0.1  # share of the episodes that are cloned

    def prepare_data(self, data):
        count = max(1, round(self.cfg.share_of_best * data.episodes))
        return data.subset(np.argsort(-data.scores, kind="stable")[:count])


class ReturnConditionedBC(Algorithm):
    """Policies given the return to go (Emmons et al. 2022); in evaluation they ask for `wanted`. Rewards become returns to go."""

    @dataclass(frozen=True)
    class Config(Common):
        wanted: float = 0.0  # return that the agents act for

    def nets(self):
        spec = self.spec
        return dict(pi=AgentNet(spec.num_agents, spec.obs_dim + 1, self.cfg.hidden_dim, self.space.params_dim, share=True))

    def prepare_data(self, data):
        to_go = [np.cumsum(data.rewards[a:b][::-1])[::-1] for a, b in zip(data.offset[:-1], data.offset[1:], strict=True)]
        return replace(data, rewards=np.concatenate(to_go))

    def policy_loss(self, on, tg, b):
        to_go = b.rewards[..., None, None].expand(*b.now.obs.shape[:3], 1)
        h = on.pi(torch.cat([b.now.obs, to_go], -1))
        return -masked_mean(b.mask[..., None], self.space.log_prob(h, b.now.actions, b.now.avail))

    def update(self, s, b, d):
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b)
        return s, dict(loss_policy=loss_policy)

    def action_params(self, f, obs, memory):
        wanted = torch.full_like(obs[..., :1], self.cfg.wanted)
        return f.pi(torch.cat([obs, wanted], -1), memory=memory)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    ALGORITHMS.discover()
    monkeypatch.setitem(ALGORITHMS, "filtered_bc", FilteredBC)
    monkeypatch.setitem(ALGORITHMS, "rvs", ReturnConditionedBC)


def test_a_subset_holds_the_chosen_episodes_whole():
    data = episodes(toy(), count=6)
    part = data.subset(np.array([4, 1, 4]))
    assert part.episodes == 3
    assert part.lengths.tolist() == data.lengths[[4, 1, 4]].tolist()
    assert part.returns.tolist() == data.returns[[4, 1, 4]].tolist()
    assert same(data.subset(np.ones(6, bool)), data)
    assert same(part.subset(np.array([1])), data.subset(np.array([1])))


def test_statistics_of_all_episodes_are_not_those_of_a_subset():
    data = ib.load_dataset("xor-ab")
    assert data.meta["episodes"] == 100
    for part in data.subset(np.arange(3)), concatenate([data, data]):
        assert part.meta == {key: value for key, value in data.meta.items() if key not in STATISTICS}


def test_filtered_cloning_learns_the_best_of_the_data():
    """XOR data with all joint actions in equal shares: cloning earns the data's mean, cloning of the best quarter an optimum's return."""
    best = ib.train("filtered_bc", "xor-all", seeds=2, share_of_best=0.2, **SMALL).frame
    last = best[(best.step == 200) & (best.metric == "return_sampled")].value
    assert last.min() > ib.load_dataset("xor-all").scores.mean()


def test_return_conditioned_policies_do_what_they_are_asked_for():
    frames = [ib.train("rvs", "bridge-mix", seeds=1, wanted=wanted, **SMALL).frame for wanted in (-1.5, -10.0)]
    high, low = (frame[(frame.step == 200) & (frame.metric == "return_sampled")].value.item() for frame in frames)
    assert high > low
