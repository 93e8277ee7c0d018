"""Datasets of StarCraft: their content is the same everywhere, and their episodes replay."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets import collect
from inspo_benchmark.datasets.behavior.policy import Net, Policy, save
from inspo_benchmark.datasets.behavior.smac_policy import act, load, shapes
from inspo_benchmark.datasets.dataset import Dataset, content_sha256
from inspo_benchmark.datasets.replay_check import audit
from inspo_benchmark.datasets.validate import problems
from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.plots import dataset_cards

REPLAY = 3


def task(quality: str, name: str = "3m") -> Task:
    m = find_map(name)
    return Task(
        name=f"{name}-{quality}",
        spec=Spec(m.n, m.obs, m.state, Discrete(m.actions), m.limit),
        make=partial(Smac, name),
        family="smac",
        quality=quality,
        backend="smac-test",
        reference=(0.0, 20.0),
    )


def ship(folder: Path) -> Path:
    """Policies of random weights."""
    for k, name in enumerate(["medium-0", "medium-1", "expert-0", *(f"replay-{i:02}" for i in range(REPLAY))]):
        m, rng = find_map("3m"), np.random.default_rng(k)
        net = Net(*(rng.normal(0, 0.3, shape).astype(np.float32) for shape in shapes(m, 64)))
        (folder / "3m").mkdir(exist_ok=True)
        noise = (0.0, 1.0) if name.startswith("replay") else (0.05, 0.0)
        known = {"greedy_win_rate": 0.2 + 0.1 * k, "greedy_return": 10.0 + 2 * k}
        save(Policy("3m", net, 100 * k, k % 2, *noise, **known), folder / "3m" / f"{name}.npz")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(collect, "EPISODES", 20)
    monkeypatch.setattr(collect, "FEWER", {"8m": 6})
    monkeypatch.setattr(collect, "SHIPPED", ship(tmp_path))


def episode(d: Dataset, e: int) -> list[np.ndarray]:
    a, b = d.offset[e], d.offset[e + 1]
    rows = slice(a + e, b + e + 1)
    return [d.obs[rows], d.state[rows], d.avail[rows], d.actions[a:b], d.rewards[a:b], d.behavior_logp[a:b], d.seed[e], d.won[e]]


@pytest.mark.parametrize("quality", ["random", "medium", "medium_replay", "expert", "mixed"])
def test_datasets_are_valid_and_the_same_in_any_batches(quality, monkeypatch):
    d = collect.smac(task(quality))
    assert problems(d, task(quality)) == []
    assert d.episodes == 20
    assert (
        d.meta["behaviour"]
        == {
            "random": "uniform over the available actions",
            "medium": "MAPPO, 2 policies of 2 trainings after 0 to 100 steps, equal shares, greedy actions, 5% uniformly random",
            "medium_replay": "MAPPO, 3 policies of 2 trainings after 300 to 500 steps, equal shares, sampled actions",
            "expert": "MAPPO after 200 steps of training, greedy actions, 5% uniformly random",
            "mixed": "MAPPO, 3 policies of 2 trainings after 0 to 200 steps, equal shares, greedy actions, 5% uniformly random",
        }[quality]
    )
    for num_envs, threads in ((1, 3), (7, 1), (7, 2), (1000, 1)):
        monkeypatch.setattr(collect, "NUM_ENVS", num_envs)
        monkeypatch.setattr(collect, "THREADS", threads)
        assert content_sha256(collect.smac(task(quality))) == content_sha256(d)


def test_seeds_and_actions_reproduce_the_episodes():
    d = collect.smac(task("medium"))
    env = Smac("3m", d.episodes)
    observation = env.reset(d.seed)
    for t in range(d.lengths.max()):
        live = np.flatnonzero(d.lengths > t)
        rows = d.offset[live] + live + t
        for name in ("obs", "state", "avail"):
            assert (getattr(d, name)[rows] == getattr(observation, name)[live]).all()
        joint = np.zeros((d.episodes, 3), np.int64)
        joint[live] = d.actions[d.offset[live] + t]
        observation, reward, terminated, truncated, info = env.step(joint)
        assert (reward[live].astype("f4") == d.rewards[d.offset[live] + t]).all()
        assert (terminated[live] == d.terminated[d.offset[live] + t]).all()
        assert (truncated[live] == d.truncated[d.offset[live] + t]).all()
    rows = d.offset[1:] + np.arange(d.episodes)  # the last observations
    assert (d.obs[rows] == observation.obs).all()
    assert (d.won == info["won"]).all()


def edited(d: Dataset, name: str, index, value) -> Dataset:
    x = getattr(d, name).copy()
    x[index] = value
    return replace(d, **{name: x})


def test_validation_repeats_whole_episodes():
    ours = task("medium")
    d = collect.smac(ours)
    assert audit(d, ours) == []
    step = int(d.offset[5]) + 4
    assert audit(edited(d, "rewards", step, 99), ours)[0].startswith(f"steps/rewards: 99.0 at step {step} of the file, in episode 5")
    assert f"row {step + 6} of the file, in episode 5" in audit(edited(d, "obs", (step + 6, 0, 0), 9), ours)[0]
    assert audit(edited(d, "won", 5, 1 - d.won[5]), ours) == [f"episodes/won: {1 - d.won[5]} in episode 5; the game says {d.won[5]}"]
    assert audit(edited(d, "won", 5, -1), ours) == []
    swapped = edited(d, "seed", [0, 1], d.seed[[1, 0]])
    assert "is not the environment's first" in audit(swapped, ours)[0]
    other = replace(edited(d, "rewards", step, 99), meta=d.meta | {"backend": "smac-of-another-version"})
    assert audit(other, ours) == []  # only the starts are compared


def test_recordings_that_were_cut_are_repeated_as_far_as_they_go():
    ours = task("medium")
    d = collect.smac(ours).subset(np.arange(3))
    cut = int(d.offset[2]) - 5  # the second episode's last five steps are missing
    steps, rows = (np.r_[:cut, d.offset[2] : d.steps], np.r_[: cut + 2, d.offset[2] + 2 : d.steps + 3])
    d = replace(
        d,
        **{name: getattr(d, name)[rows] for name in ("obs", "state", "avail")},
        **{name: getattr(d, name)[steps] for name in ("actions", "rewards", "terminated", "truncated", "behavior_logp")},
        offset=d.offset - np.array([0, 0, 5, 5]),
        meta=d.meta | {"source": "a recording"},
    )
    d = edited(edited(d, "truncated", cut - 1, True), "won", 1, 0)
    assert audit(d, ours) == []
    assert audit(edited(d, "rewards", cut - 2, 99), ours)[0].startswith(f"steps/rewards: 99.0 at step {cut - 2} of the file, in episode 1")


def test_probabilities_are_those_of_the_policy(tmp_path):
    """An action's probability is the length of the interval of u in which it is chosen."""
    d, steps, fine = collect.smac(task("expert")), 100, 1000
    policy, before = (
        load(tmp_path / "3m" / "expert-0.npz", find_map("3m")),
        d.now,
    )
    obs, avail, actions = d.obs[before[:steps]], d.avail[before[:steps]], d.actions[:steps]
    chosen = np.stack([act(policy, obs, avail, np.full(actions.shape, (k + 0.5) / fine))[0] == actions for k in range(fine)])
    np.testing.assert_allclose(chosen.mean(0), np.exp(d.behavior_logp[:steps]), atol=1 / fine)


def test_which_policy_plays_which_episodes():
    medium, expert, mixed, replay = (collect.smac(task(q)) for q in ("medium", "expert", "mixed", "medium_replay"))
    for e in range(20):
        if e >= 10:
            other, k = expert, e - 10
        elif e < 5:  # medium-0 plays half of medium's 20 episodes, and half of the 10 in mixed
            other, k = medium, e
        else:
            continue
        assert all(np.array_equal(x, y) for x, y in zip(episode(mixed, e), episode(other, k), strict=True))
    assert (mixed.seed[:10] == medium.seed[:10]).all()
    loader = partial(load, map=find_map("3m"))
    parts = collect.assign_policies("3m", "mixed", 20, loader)
    assert [(part.quality, part.policy.steps, len(part.numbers)) for part in parts] == [
        ("medium", 0, 5),
        ("medium", 100, 5),
        ("expert", 200, 10),
    ]
    assert len(np.unique(medium.seed)) == 20
    assert not set(medium.seed) & set(expert.seed)
    assert [len(part[-1]) for part in collect.assign_policies("3m", "medium_replay", 20, loader)] == [7, 7, 6]
    assert replay.episodes == 20


@pytest.mark.parametrize("quality", ["medium", "medium_replay", "mixed"])
@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_episodes_is_built(quality, count):
    d = collect.smac(task(quality), count)
    assert problems(d, task(quality)) == []
    assert d.episodes == count
    assert len(np.unique(d.seed)) == count


def test_the_message_about_missing_policies_says_how_to_train_them():
    with pytest.raises(
        UserError, match=r"8m/expert-0.npz: no such policy; there are: none. To train one: python -m tools.behavior.mappo 8m "
    ):
        collect.smac(task("expert", "8m"))
    with pytest.raises(UserError, match=r"replay-0.npz: no such policy"):
        collect.smac(task("medium_replay", "8m"))
    assert collect.smac(task("random", "8m")).episodes == 6


def test_cards(tmp_path, monkeypatch):
    """Against sums by hand, and a picture per scenario."""
    made = {t.name: collect.smac(t) for t in (task("random"), task("expert"), task("random", "8m"))}
    for d in made.values():
        d.meta["content_sha256"] = content_sha256(d)
    monkeypatch.setattr(dataset_cards, "fetch", lambda t: t.name)
    monkeypatch.setattr(dataset_cards, "load", lambda path, t: made[path])
    dataset_cards.write([task("random"), task("random", "8m"), task("expert")], tmp_path)
    text = (tmp_path / "CARDS.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## 3m", "## 8m"]
    for name in ("3m", "8m"):
        assert (tmp_path / "cards" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    d = made["3m-expert"]
    line = next(line for line in text.splitlines() if line.startswith("| 3m-expert"))
    pairs, nats = set(), []
    for e in range(d.episodes):
        for t in range(d.lengths[e]):
            step = d.offset[e] + t
            pairs.add((*np.round(d.state[step + e], 4).tolist(), *d.actions[step].tolist()))
            nats += [-d.behavior_logp[step, i] for i in range(3) if d.avail[step + e, i].sum() > 1]
    assert f"| 20 | {d.steps:,} | {d.returns.mean():.2f} ± {d.returns.std():.2f} | " in line
    assert f" | {d.won.mean():.1%} | 40.0% | {np.mean(nats):.2f} | {len(pairs) / d.steps:.2f} | 1 | " in line
    assert f" | {d.steps / 20:.1f} ± {d.lengths.std():.1f} | {d.truncated.sum() / 20:.1%} | MAPPO after 200 steps" in line
    assert content_sha256(d)[:12] in line
    assert 0 < len(pairs) < d.steps
    assert "| 3m-expert | OG-MARL Good | 16.50 | 22.9 | -- | 0.80 |" in text
    assert "| 8m-random | OG-MARL Poor | 5.28 ± 0.56 | 48.2 | -- | -- |" in text


def test_metadata_of_the_behavior_policies():
    """The scores of their most probable actions are averaged over episodes, of which half are by the medium policies."""
    about = collect.greedy_scores(collect.assign_policies("3m", "mixed", 20, partial(load, map=find_map("3m"))))
    assert about == {
        "behavior_greedy_return": pytest.approx((10 + 12) / 4 + 14 / 2),
        "behavior_greedy_win_rate": pytest.approx((0.2 + 0.3) / 4 + 0.4 / 2),
        "behavior_greedy_win_rates": "0.20, 0.30, 0.40",
        "behavior_trainings": 2,
    }
    d = collect.smac(task("mixed"))
    assert {key: d.meta[key] for key in about} == about
    assert collect.greedy_scores([collect.Part("random", None, np.arange(3))]) == {}
