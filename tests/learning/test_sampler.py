"""Minibatches: every step is equally likely, no sequence crosses the end of an episode, and every step has its next observation."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_map

from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import Dataset, pack
from inspo_benchmark.learning import sampler as module
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS, Sampler
from support.toy import LENGTHS, SPACES, close, episodes, same, toy

LIMIT, AGENTS = 9, 3
NOISE = dict(a=(4, 2), b=(), none=(3, 0))
lengths_and_seq_len = given(st.lists(st.integers(1, LIMIT), min_size=1, max_size=8), st.integers(1, LIMIT + 2))


def numbered(lengths) -> tuple[Task, Dataset]:
    """Data that encode their place: observations (episode, step), state -step, action step % 3, reward 100 episode + step."""
    task, count = toy(SPACES["discrete"], AGENTS, LIMIT), len(lengths)
    e, t = np.meshgrid(np.arange(count), np.arange(LIMIT + 1), indexing="ij")
    obs = np.broadcast_to(np.stack([e, t, e, t], -1)[:, :, None], (count, LIMIT + 1, AGENTS, 4))
    data = pack(
        task,
        lengths=np.array(lengths),
        obs=obs,
        state=np.stack([e, -t, t], -1),
        avail=np.broadcast_to((t % 3)[..., None, None] == np.arange(3), (count, LIMIT + 1, AGENTS, 3)),
        actions=np.broadcast_to((t % 3)[:, :-1, None], (count, LIMIT, AGENTS)),
        rewards=(100 * e + t)[:, :-1],
        terminated=np.arange(count) % 2 == 0,
        won=np.full(count, -1),
        seed=np.full(count, -1),
    )
    return task, data


def sampler(lengths, seq_len, seeds=(0,), batch=16, turns=1, noise=NOISE) -> Sampler:
    _, data = numbered(lengths)
    return Sampler(data, batch, seq_len, turns, noise, seeds)


def expected(lengths, seq_len, burn_in=0) -> list[tuple[int, int, int]]:
    """(episode, first step, last step + 1) of every sequence, from the definition: those that have a step to train on."""
    whole = [[(e, 0, n)] * (seq_len - burn_in) if n <= seq_len else [] for e, n in enumerate(lengths)]
    parts = [
        [(e, max(start, 0), min(start + seq_len, n)) for start in range(1 - seq_len + burn_in, n - burn_in)] if n > seq_len else []
        for e, n in enumerate(lengths)
    ]
    return [place for e in range(len(lengths)) for place in (*whole[e], *parts[e])]


def check(b, places, lengths, seq_len):
    """Compare every leaf of a batch of the sequences at `places` with the data."""
    for k, (e, start, end) in enumerate(places):
        n = lengths[e]
        rows = [min(start + j, n) for j in range(seq_len + 1)]  # padded with the last observation of the episode
        acts = [min(start + j, n - 1) % 3 for j in range(seq_len + 1)]  # the last observation has the last action again
        real = [start + j < end for j in range(seq_len)]
        assert b.obs[k, :, 1].tolist() == [[e, t, e, t] for t in rows]
        assert b.state[k].tolist() == [[e, -t, t] for t in rows]
        assert b.avail[k].int().argmax(-1).tolist() == [[t % 3] * AGENTS for t in rows]
        assert b.actions[k].tolist() == [[a] * AGENTS for a in acts]
        assert b.mask[k].tolist() == [float(x) for x in real]
        for j in (j for j in range(seq_len) if real[j]):
            assert b.rewards[k, j] == 100 * e + start + j
            assert b.terminated[k, j] == (start + j == n - 1 and e % 2 == 0)  # a time limit is not a termination


def places_of(obs, mask) -> list[tuple[int, int, int]]:
    """(episode, first step, last step + 1) of the sequences of a batch."""
    return [(int(e), int(t), int(t + m.sum())) for (e, t), m in zip(obs[:, 0, 0, :2], mask, strict=True)]


@lengths_and_seq_len
@settings(max_examples=60, deadline=None)
def test_sequences_are_those_of_the_episodes(lengths, seq_len):
    s, places = sampler(lengths, seq_len), expected(lengths, seq_len)
    assert s.sequence_ends[-1] == len(places)
    check(s.batch_of(np.arange(len(places))), places, lengths, seq_len)


@lengths_and_seq_len
@settings(max_examples=30, deadline=None)
def test_every_draw_consists_of_sequences(lengths, seq_len):
    s, places = sampler(lengths, seq_len, seeds=(1, 7)), expected(lengths, seq_len)
    b, _ = s.draw(3)
    assert b.mask.shape == (2, 16, seq_len)
    for run in range(2):
        drawn = places_of(b.obs[run], b.mask[run])
        assert set(drawn) <= set(places)
        check(tree_map(lambda x, run=run: x[run], b), drawn, lengths, seq_len)


@lengths_and_seq_len
@settings(max_examples=30, deadline=None)
def test_burn_in_steps_are_masked(lengths, seq_len):
    _, data = numbered(lengths)
    for burn_in in range(seq_len):
        places = expected(lengths, seq_len, burn_in)
        s = Sampler(data, 4, seq_len, 1, {}, (0,), burn_in=burn_in)
        assert s.sequence_ends[-1] == len(places)
        b = s.batch_of(np.arange(len(places)))
        trained = Counter()
        for k, (e, start, end) in enumerate(places):
            counted = [j for j in range(seq_len) if start + j < end and (j >= burn_in or start == 0)]
            assert counted
            assert b.mask[k].nonzero().flatten().tolist() == counted
            assert b.obs[k, 0, 0, :2].tolist() == [e, start]
            trained.update((e, start + j) for j in counted)
        every = {(e, t) for e, n in enumerate(lengths) for t in range(n)}
        assert trained == dict.fromkeys(every, seq_len - burn_in)  # every step equally often


def test_sequences_of_one_step_are_the_transitions():
    """Every step of the data once, in order."""
    s = sampler(LENGTHS, 1)
    b = s.batch_of(np.arange(sum(LENGTHS)))
    assert b.rewards[:, 0].tolist() == [100 * e + t for e, n in enumerate(LENGTHS) for t in range(n)]
    assert b.mask.all()


@pytest.mark.parametrize("seq_len", [1, 3, 20])
def test_draws_are_uniform_over_sequences(seq_len):
    s, places = sampler(LENGTHS, seq_len, batch=1000), Counter(expected(LENGTHS, seq_len))
    batches = [s.draw(call)[0] for call in range(30)]
    counts = Counter(place for b in batches for place in places_of(b.obs[0], b.mask[0]))
    assert set(counts) == set(places)
    for place, n in counts.items():
        p = places[place] / places.total()
        assert abs(n / 30_000 - p) < 5 * (p * (1 - p) / 30_000) ** 0.5


@pytest.mark.parametrize("kind", list(SPACES))
def test_a_seeds_draw_is_the_same_alone_and_with_other_seeds(kind):
    task = toy(SPACES[kind])
    data = episodes(task)
    packed, again = (Sampler(data, 5, 3, 3, NOISE, (4, 0, 11)) for _ in range(2))
    for call in (7, 0, 8, 7):  # in any order
        together = packed.draw(call)
        assert same(together, again.draw(call))
        for k, seed in enumerate((4, 0, 11)):
            alone = Sampler(data, 5, 3, 3, NOISE, (seed,)).draw(call)
            assert same(alone, tree_map(lambda x, k=k: x[k : k + 1], together))
    (first, draw), (second, other) = packed.draw(0), packed.draw(1)
    assert not same(first, second)
    assert (draw.u["a"] != other.u["a"]).all()
    assert len(set(draw.u["a"].flatten().tolist())) == 24  # seeds and names have different noise


@pytest.mark.parametrize("calls_at_a_time", [0, 1, 3, 100])
def test_calls_that_are_drawn_in_groups_are_those_drawn_alone(monkeypatch, calls_at_a_time):
    s = sampler(LENGTHS, 2, seeds=(3, 5), turns=AGENTS)
    row = sum(x[0].nbytes for x in (s.obs, s.state, s.avail, s.actions))
    monkeypatch.setattr(module, "GROUP", calls_at_a_time * 2 * s.batch_size * 3 * row)
    drawn = list(s.draws(range(7, 15)))
    assert len(drawn) == 8
    for call, together in zip(range(7, 15), drawn, strict=True):
        assert same(together, s.draw(call))
    assert not list(s.draws(range(7, 7)))


def test_noise_has_its_shapes_and_stays_inside_its_bounds():
    _, draw = sampler(LENGTHS, 2, seeds=(0, 1, 2), noise=NOISE | dict(many=(10_000,))).draw(0)
    assert {k: tuple(x.shape) for k, x in draw.u.items()} == dict(a=(3, 4, 2), b=(3,), none=(3, 3, 0), many=(3, 10_000))
    many = draw.u["many"]
    assert ((many > 0) & (many < 1)).all()
    assert abs(many.mean() - 0.5) < 0.01
    for edge in UNIFORM_BOUNDS:
        assert 0 < float(np.float32(edge)) < 1
    assert draw.agent.shape == (3,)


@given(st.integers(1, 5), st.integers(0, 20), st.lists(st.integers(0, 100), min_size=1, max_size=3, unique=True))
@settings(max_examples=30, deadline=None)
def test_the_turns_of_an_update_are_a_permutation(agents, update, seeds):
    task = toy(SPACES["discrete"], agents)
    s = Sampler(episodes(task), 2, 1, agents, {}, seeds)
    turns = torch.stack([s.draw(update * agents + turn)[1].agent for turn in range(agents)])
    for k in range(len(seeds)):
        assert sorted(turns[:, k].tolist()) == list(range(agents))


def test_orders_vary_over_updates_and_seeds():
    s = sampler(LENGTHS, 1, seeds=(0, 1), turns=AGENTS, batch=1)
    orders = torch.stack([s.draw(call)[1].agent for call in range(AGENTS * 100)]).view(100, AGENTS, 2)
    counts = Counter(tuple(orders[k, :, 0].tolist()) for k in range(100))
    assert len(counts) == 6
    assert not torch.equal(orders[..., 0], orders[..., 1])


def test_numbers_have_the_default_type(double):
    b, d = sampler(LENGTHS, 2).draw(0)
    assert {x.dtype for x in (b.obs, b.state, b.rewards, b.terminated, b.mask, d.u["a"])} == {torch.float64}
    assert (b.actions.dtype, b.avail.dtype, d.agent.dtype) == (torch.int64, torch.bool, torch.int64)
    torch.set_default_dtype(torch.float32)  # `double` puts it back
    single, _ = sampler(LENGTHS, 2).draw(0)
    assert single.obs.dtype == torch.float32
    close(single.rewards.double(), b.rewards)
