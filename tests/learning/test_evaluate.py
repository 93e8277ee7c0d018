"""Evaluation: every environment runs one episode and counts once; a known policy gets its known return."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.envs.matrix import XOR
from inspo_benchmark.learning import evaluate
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.evaluate import SEQUENCE, Evaluator, next_hash
from inspo_benchmark.learning.train import warn_about_equal_episodes
from support.toy import close, run_of

ALGORITHMS.discover()
TASKS.discover()
AGENTS, ACTIONS, LIMIT = 2, 3, 12


class Uneven:
    """Odd seeds win after 12 steps of reward 1, even seeds lose after one step of reward -1. Rewards continue after the end of an episode,
    against the rules of `core.env`, so that the test notices if they are counted."""

    def __init__(self, num_envs):
        self.num_envs, self.resets, self.acts = num_envs, [], []

    def reset(self, seeds):
        assert len(seeds) == self.num_envs
        self.resets.append(list(seeds))
        self.seeds, self.t = np.array(seeds), 0
        return self.seen()

    def step(self, act):
        assert act.shape[:2] == (self.num_envs, AGENTS)
        self.acts.append(act)
        self.t += 1
        odd = self.seeds % 2 == 1
        over = self.t >= np.where(odd, LIMIT, 1)
        return Step(self.seen(), np.where(odd, 1.0, -1.0), over & ~odd, over & odd, dict(won=over & odd))

    def seen(self):
        obs = np.broadcast_to(self.seeds[:, None, None] + self.t, (self.num_envs, AGENTS, 1)).astype(np.float32)
        return Observation(obs, np.zeros((self.num_envs, 1), np.float32), np.ones((self.num_envs, AGENTS, self.space.avail_dim), bool))

    space = Discrete(ACTIONS)

    def close(self):
        self.closed = True


class Matching(Uneven):
    """The reward is the share of agents that choose (t + seed) % 3. Only the first observation shows the seed. Episodes have 12 steps."""

    def step(self, act):
        right = (act == ((self.t + self.seeds) % ACTIONS)[:, None]).mean(1)
        self.t += 1
        over = np.full(self.num_envs, self.t >= LIMIT)
        seen = self.seen()
        return Step(seen._replace(obs=np.zeros_like(seen.obs)), right, np.zeros(self.num_envs, bool), over, {})


class Won(Matching):
    """All episodes are won."""

    def step(self, act):
        return super().step(act)._replace(info=dict(won=np.ones(self.num_envs, bool)))


def task(env=Uneven, **fields) -> Task:
    base = dict(
        name="toy",
        spec=Spec(AGENTS, 1, 1, Discrete(ACTIONS), LIMIT),
        make=env,
        family="toy",
        quality="none",
        backend="none",
        reference=(0.0, 1.0),
    )
    return Task(**(base | fields))


class LogitTable(nn.Module):
    def __init__(self, agents, action_params):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(agents, action_params))

    def forward(self, x):
        return self.logits.expand(*x.shape[:-1], -1)


class Fixed(Algorithm):
    """A table of logits, whatever the observation is."""

    paper = "none"

    def nets(self):
        return dict(pi=LogitTable(self.spec.num_agents, self.space.params_dim))

    def update(self, s, b, d):
        return s, {}

    def action_params(self, f, obs, memory):
        return f.pi(obs), memory


class Counting(Fixed):
    """Chooses (steps so far + first observation) % 3, which needs a recurrent state for each episode."""

    def init_hidden(self, *lead):
        return torch.zeros(*lead, self.spec.num_agents, 2)

    def action_params(self, f, obs, memory):
        steps, first = memory[..., :1], memory[..., 1:]
        first = torch.where(steps == 0, obs, first)
        right = torch.remainder(steps + first, ACTIONS)
        return 100.0 * (right == torch.arange(ACTIONS)), torch.cat([steps + 1, first], -1)


def evaluator(task, seeds=(0,), kind=Fixed, logits=None):
    algorithm = kind(Common(), task.spec)
    s = algorithm.init(seeds)
    if logits is not None:
        s = s._replace(params=dict(pi=torch.as_tensor(logits, dtype=torch.get_default_dtype()).reshape(len(seeds), 1, -1)))
    return Evaluator(algorithm, task, tuple(seeds)), s


def only_env(e):
    (env,) = e.envs.values()
    return env


def test_short_episodes_count_once():
    """Half of the episodes are lost. Counting the episodes that end first, or steps, would not give 0.5."""
    e, s = evaluator(task())
    scores = e(s, 40)
    assert scores["win_rate"].tolist() == [0.5]
    assert scores["return"].tolist() == scores["return_sampled"].tolist() == [(LIMIT - 1) / 2]
    assert scores["length"].tolist() == [(LIMIT + 1) / 2]
    assert scores["win_rate_sampled"].tolist() == [0.5]


def test_a_method_without_a_stochastic_policy_has_no_sampled_scores():
    class Greedy(Fixed):
        stochastic = False

    e, s = evaluator(task(), kind=Greedy)
    assert set(e(s, 4)) == {"return", "length", "win_rate", "distinct_episodes"}
    for name, sampled in (("cfcql", set()), ("bc", {"return_sampled"})):
        xor = TASKS["xor-all"]
        algorithm = ALGORITHMS[name](ALGORITHMS[name].Config(hidden_dim=4), xor.spec)
        assert set(Evaluator(algorithm, xor, (0,))(algorithm.init((0,)), 2)) == {"return", "length"} | sampled


def test_distinct_episodes_are_different_sequences_of_joint_actions():
    """Half of the episodes end after one step, and greedy actions are always the same: there are two sequences."""
    e, s = evaluator(task(), seeds=(0, 1))
    assert e(s, 40)["distinct_episodes"].tolist() == [2 / 40] * 2
    e, s = evaluator(task(Won), kind=Counting)
    assert e(s, 40)["distinct_episodes"].tolist() == [ACTIONS / 40]  # the right action of the first step is one of three
    assert SEQUENCE not in e.rollout(s, 4, sampled=False)
    e, s = evaluator(TASKS["xor-all"])
    assert "distinct_episodes" not in e(s, 4)  # nothing is won


def test_a_warning_names_the_seeds_whose_episodes_are_the_same(capsys):
    warn_about_equal_episodes((3, 5, 8), np.array([0.003, 0.049, 0.05]))
    assert capsys.readouterr().out.startswith("warning: the greedy policies of seeds 3, 5 act (nearly) the same in all evaluation episodes")
    warn_about_equal_episodes((3, 5, 8), ())
    warn_about_equal_episodes((3, 5), np.array([0.9, 1.0]))
    assert not capsys.readouterr().out


def test_hashes_tell_sequences_apart():
    sequences = list(itertools.product(range(3), repeat=6))  # of three joint actions of two agents
    hashes = np.zeros(len(sequences), np.uint64)
    seen = set()
    for joint in np.array(sequences).reshape(-1, 3, 2).swapaxes(0, 1):
        hashes = next_hash(hashes, joint)
        seen |= set(hashes.tolist())
    assert len(seen) == 9 + 9**2 + 9**3  # beginnings of sequences differ from longer ones too


def test_episodes_have_fixed_seeds():
    e, s = evaluator(task(), seeds=(5, 9))
    rows = e.rollout(s, 4, sampled=False)
    e.rollout(s, 4, sampled=True)
    assert only_env(e).resets == [[0, 1, 2, 3, 0, 1, 2, 3]] * 2  # the same episodes for every policy, every time
    assert rows["return"].tolist() == [[-1, LIMIT, -1, LIMIT]] * 2
    assert rows["length"].tolist() == [[1, LIMIT, 1, LIMIT]] * 2
    assert rows["win_rate"].tolist() == [[0, 1, 0, 1]] * 2
    e.close()
    assert only_env(e).closed


def test_a_rollout_ends_with_its_longest_episode():
    e, s = evaluator(task())
    e.rollout(s, 2, sampled=False)
    assert len(only_env(e).acts) == LIMIT


def test_returns_per_step():
    e, s = evaluator(task(per_step=True))
    scores = e(s, 10)
    assert scores["return"].tolist() == [0.0]  # the mean of -1 and 1 over episodes, not steps
    assert scores["length"].tolist() == [(LIMIT + 1) / 2]


def test_the_recurrent_state_is_carried_and_starts_at_zero():
    e, s = evaluator(task(Matching), seeds=(0, 1), kind=Counting)
    for sampled in (False, True, False):
        assert e.rollout(s, 6, sampled)["return"].tolist() == [[LIMIT] * 6] * 2
    assert evaluator(task(Matching))[0](s, 6)["return"] == pytest.approx(
        LIMIT / 3
    )  # always the same action, which is right in a third of the steps


def test_a_known_policy_has_its_known_return(double):
    """XOR: agent 0 chooses A with probability 0.9, agent 1 with 0.2."""
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    e, s = evaluator(TASKS["xor-all"], logits=np.log(p))
    scores = e(s, 400)
    payoff = p[0] @ XOR @ p[1]
    spread = (p[0] @ XOR**2 @ p[1] - payoff**2) ** 0.5
    assert scores["return"].tolist() == [XOR[0, 1]]  # greedy: (A, B)
    assert scores["return_sampled"][0] == pytest.approx(payoff, abs=4 * spread / (400 * 50) ** 0.5)
    assert abs(scores["return_sampled"][0] - payoff) > 0  # it is a sample
    assert scores["length"].tolist() == [50]


@pytest.mark.parametrize("name", ["xor-all", "bridge-mix"])
@pytest.mark.parametrize("memory", ["mlp", "gru"])
def test_packed_policies_score_as_they_do_alone(name, memory, double):
    seeds, algorithm = (3, 1, 8), ALGORITHMS["bc"](Common(hidden_dim=8, network=memory, seq_len=3), TASKS[name].spec)
    s = algorithm.init(seeds)._replace(step=torch.tensor([7, 7, 7]))
    s = s._replace(params=tree_map(lambda x: 3 * x, s.params))
    packed = Evaluator(algorithm, TASKS[name], seeds)
    for sampled in (False, True):
        together = packed.rollout(s, 5, sampled)
        for k, seed in enumerate(seeds):
            alone = Evaluator(algorithm, TASKS[name], (seed,)).rollout(run_of(s, k), 5, sampled)
            assert together.keys() == alone.keys()
            for metric, value in alone.items():
                np.testing.assert_allclose(together[metric][k], value[0], rtol=0, atol=1e-12)
    assert len(np.unique(together["return"])) > 3  # every seed and episode has its own noise


def test_noise_depends_on_the_updates_done_and_repeats():
    e, s = evaluator(TASKS["xor-all"], seeds=(0, 1), logits=np.zeros((2, 4)))
    later = s._replace(step=s.step + 1)
    first, again, other = (e.rollout(x, 8, sampled=True)["return"] for x in (s, s, later))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])
    before = torch.get_rng_state()
    e(s, 8)
    assert torch.equal(before, torch.get_rng_state())


def test_continuous_actions_reach_the_environment():
    box = Box(2)

    class Continuous(Uneven):
        space = box

    spec = dataclasses.replace(task(Continuous), spec=Spec(AGENTS, 1, 1, box, LIMIT))
    e, s = evaluator(spec, seeds=(0, 1), logits=np.tile([0.5, -0.5, -1.0, -1.0], (2, 2)))
    e.rollout(s, 3, sampled=False)
    greedy = only_env(e).acts.copy()
    e.rollout(s, 3, sampled=True)
    sampled = only_env(e).acts[len(greedy) :]
    close(torch.as_tensor(np.stack(greedy)), torch.tanh(torch.tensor([0.5, -0.5])).expand(LIMIT, 6, AGENTS, 2), 1e-6)
    assert np.stack(sampled).shape == (LIMIT, 6, AGENTS, 2)
    assert np.stack(sampled).std(0).min() > 0


def test_max_envs_limits_the_parallel_environments(double):
    """The greedy scores do not depend on the number of parallel environments, which never exceeds the limit."""
    scores = {}
    for num_envs in (1 << 20, 8, 1):
        made = []
        limited = task(lambda num_envs, made=made: made.append(num_envs) or Uneven(num_envs), max_envs=num_envs)
        algorithm = ALGORITHMS["bc"](Common(hidden_dim=4), limited.spec)
        evaluate = Evaluator(algorithm, limited, (0, 1))
        scores[num_envs] = evaluate.rollout(algorithm.init((0, 1)), 9, sampled=False)
        assert max(made) <= num_envs
    for other in (8, 1):
        for metric, values in scores[1 << 20].items():
            assert (scores[other][metric] == values).all()
    assert scores[1]["win_rate"].tolist() == [[0, 1] * 4 + [0]] * 2


def test_max_envs_does_not_change_the_sampled_scores():
    """Nor do the seeds that are evaluated beside, with which a seed shares the environments."""
    whole = TASKS["bridge-mix"]
    algorithm = ALGORITHMS["bc"](Common(hidden_dim=4), whole.spec)
    evaluators = [Evaluator(algorithm, dataclasses.replace(whole, max_envs=num_envs), (0, 1)) for num_envs in (1 << 20, 6, 1)]
    first, *others = (e.rollout(algorithm.init((0, 1)), 7, sampled=True)["return"] for e in evaluators)
    assert len(np.unique(first)) > 2
    assert all((other == first).all() for other in others)
    alone = Evaluator(algorithm, dataclasses.replace(whole, max_envs=3), (1,))
    assert (alone.rollout(algorithm.init((1,)), 7, sampled=True)["return"] == first[1:]).all()


@pytest.mark.parametrize("space", [Discrete(ACTIONS), Box(2)], ids=["discrete", "continuous"])
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_a_traced_policy_acts_as_the_plain_one(space, network, monkeypatch):
    """To the last bit, one policy and several."""

    class Env(Uneven):
        pass

    Env.space = space
    long = dataclasses.replace(task(Env), spec=Spec(AGENTS, 1, 1, space, LIMIT))
    for seeds in ((4,), (0, 1, 2)):
        algorithm, acts = ALGORITHMS["bc"](Common(hidden_dim=8, network=network, seq_len=3), long.spec), []
        s = algorithm.init(seeds)
        for trace_from in (LIMIT, LIMIT + 1):
            monkeypatch.setattr(evaluate, "TRACE_FROM", trace_from)
            e = Evaluator(algorithm, long, seeds)
            for sampled in (False, True, False):
                e.rollout(s, 3, sampled)
            assert len(e.traced) == 2
            acts.append(np.stack(only_env(e).acts))
        np.testing.assert_array_equal(*acts)
