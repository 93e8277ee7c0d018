"""The games: their rules against recordings, their values against exact ones."""

from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets import generate
from inspo_benchmark.envs.bridge import Bridge, both_arrived
from inspo_benchmark.envs.matrix import XOR, MatrixGame, mne
from support.datasets import read

TASKS.discover()
GAMES = [name for name, task in TASKS.items() if task.family in ("xor", "mne", "bridge")]
RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "alberdice"
recorded = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings of AlberDICE are not next to the repository")


# --- every game


@pytest.mark.parametrize("name", GAMES)
def test_shapes_are_those_of_the_task(name):
    spec, num_envs = TASKS[name].spec, 3
    env = TASKS[name].make(num_envs)
    first, step = env.reset(range(num_envs)), env.step(np.zeros((num_envs, spec.num_agents), np.int64))
    for observation in (first, step.observation):
        assert observation.obs.shape == (num_envs, spec.num_agents, spec.obs_dim)
        assert observation.obs.dtype == np.float32
        assert observation.state.shape == (num_envs, spec.state_dim)
        assert observation.state.dtype == np.float32
        assert observation.avail.shape == (num_envs, spec.num_agents, spec.space.avail_dim)
        assert observation.avail.dtype == bool
    assert step.rewards.shape == step.terminated.shape == step.truncated.shape == (num_envs,)
    assert (step.rewards.dtype, step.terminated.dtype, step.truncated.dtype) == (np.float64, bool, bool)


@pytest.mark.parametrize("name", GAMES)
def test_environments_are_independent_games(name):
    task, num_envs = TASKS[name], 40
    acts = np.random.default_rng(0).integers(task.spec.space.action_dim, size=(task.spec.episode_limit + 3, num_envs, task.spec.num_agents))
    together, alone = task.make(num_envs), [task.make(1) for _ in range(num_envs)]
    together.reset(range(num_envs))
    for e, env in enumerate(alone):
        env.reset([e])
    for act in acts:
        one, many = together.step(act), [env.step(act[e : e + 1]) for e, env in enumerate(alone)]
        for field in ("rewards", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(one, field), np.concatenate([getattr(step, field) for step in many]))
        for field in ("obs", "state", "avail"):
            np.testing.assert_array_equal(
                getattr(one.observation, field), np.concatenate([getattr(step.observation, field) for step in many])
            )


@pytest.mark.parametrize("name", GAMES)
def test_an_episode_that_is_over_does_not_change(name):
    task = TASKS[name]
    d = generate.BUILDERS[task.family](task)
    env = task.make(1)
    env.reset([0])
    for act in d.actions[d.offset[-2] :]:  # the last episode: of bridge-mix an optimal one, shorter than the limit
        end = env.step(act[None])
    assert (end.terminated | end.truncated).all()
    for act in np.random.default_rng(1).integers(task.spec.space.action_dim, size=(2 * task.spec.episode_limit, 1, task.spec.num_agents)):
        step = env.step(act)
        assert step.rewards == 0
        assert step.terminated == end.terminated
        assert step.truncated == end.truncated
        np.testing.assert_array_equal(step.observation.state, end.observation.state)
    observation = env.reset([0])
    np.testing.assert_array_equal(observation.state[0], d.state[0])


# --- matrix games


def value(payoff: np.ndarray, *policies: np.ndarray) -> float:
    """Expected payoff of independent agents."""
    for policy in policies:
        payoff = np.tensordot(policy, payoff, 1)
    return float(payoff)


@pytest.mark.parametrize(("quality", "cloned", "mean"), [("ab", 1, 1), ("ab_ba", 0, 1), ("aa_ab_ba", 2 / 9, 2 / 3), ("all", 0, 0)])
def test_independent_cloning_of_xor(quality, cloned, mean):
    support = np.array(generate.SUPPORTS[quality])
    policies = [np.bincount(support[:, i], minlength=2) / len(support) for i in range(2)]
    assert value(XOR, *policies) == pytest.approx(cloned, abs=1e-12)
    d = generate.xor(TASKS[f"xor-{quality}"])
    joint = np.array([XOR[tuple(a)] for a in support])
    assert d.rewards.mean() == pytest.approx(mean, abs=4 * joint.std() / np.sqrt(d.steps) + 1e-12)
    # Every pair of the support equally often: 4 standard deviations of a multinomial count.
    counts = np.array([(d.actions == a).all(1).sum() for a in support])
    p = 1 / len(support)
    assert counts.sum() == d.steps == 5000
    assert (abs(counts - p * d.steps) <= 4 * np.sqrt(d.steps * p * (1 - p))).all()


@recorded
@pytest.mark.parametrize(
    ("file", "quality", "mean"), [("02", "ab", 1), ("02_20", "ab_ba", 1), ("00_02_20", "aa_ab_ba", 0.6658), ("random", "all", 0.003)]
)
def test_recorded_xor_is_the_game(file, quality, mean):
    task = TASKS[f"xor-{quality}"]
    d = read("pymarl", RECORDINGS / f"xor_{file}.npz", task)
    again = generate.record(task, d.actions.reshape(100, 50, 2).swapaxes(0, 1), "")
    for name in ("obs", "state", "avail", "actions", "rewards", "terminated", "truncated", "offset"):
        np.testing.assert_array_equal(getattr(d, name), getattr(again, name))
    assert d.rewards.mean() == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("agents", [2, 3, 4])
def test_mne_rewards_agreement(agents):
    payoff = mne(agents)
    assert payoff.shape == (3,) * agents
    assert (payoff != -5).sum() == 3
    game = MatrixGame(payoff, limit=2, num_envs=4)
    game.reset(range(4))
    acts = np.array([[0] * agents, [1] * agents, [2] * agents, [0] * (agents - 1) + [1]])
    first, second = game.step(acts), game.step(acts)
    assert first.rewards.tolist() == second.rewards.tolist() == [10, 4, 7, -5]
    assert not first.truncated.any()
    assert second.truncated.all()
    assert not second.terminated.any()


@pytest.mark.parametrize(("scenario", "agents"), [("mne", 2), ("mne3", 3)])
def test_imbalanced_mne_is_92_percent_poor(scenario, agents):
    d = generate.mne(TASKS[f"{scenario}-imbalanced"])
    joint = np.ravel_multi_index(d.actions.T, (3,) * agents)
    counts = np.bincount(joint, minlength=3**agents) / d.steps
    poor = np.ravel_multi_index((1,) * agents, (3,) * agents)
    expected = np.full(3**agents, 0.08 / (3**agents - 1))
    expected[poor] = 0.92
    assert (abs(counts - expected) <= 4 * np.sqrt(expected * (1 - expected) / d.steps)).all()
    assert set(d.rewards[joint == poor]) == {4}


def test_references_of_matrix_games():
    assert TASKS["xor-all"].reference == (0, 1)
    assert TASKS["mne-balanced"].reference == pytest.approx((-1, 10))
    assert TASKS["mne3-balanced"].reference == pytest.approx(((21 - 5 * 24) / 27, 10))


# --- Bridge

CELLS, ACTIONS = 18 * 18, 25


def index(state: np.ndarray) -> np.ndarray:
    """States [..., 8] -> number of the pair of cells [...]."""
    r0, c0, r1, c1 = np.moveaxis(state[..., [0, 1, 4, 5]].astype(int), -1, 0)
    return (6 * r0 + c0) * 18 + 6 * r1 + c1


def model() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reward, next and last [CELLS, ACTIONS] of the game, from the environment: one copy for each pair of cells and joint action."""
    cells, acts = np.meshgrid(np.arange(CELLS), np.arange(ACTIONS), indexing="ij")
    env = Bridge(CELLS * ACTIONS, limit=10**6)
    pair = np.stack([cells // 18, cells % 18], -1).reshape(-1, 2)
    env.pos = np.stack([pair // 6, pair % 6], -1)
    step = env.step(np.stack([acts // 5, acts % 5], -1).reshape(-1, 2))
    return tuple(x.reshape(CELLS, ACTIONS) for x in (step.rewards, index(step.observation.state), step.terminated))


MODEL = model()


def evaluate(policy: np.ndarray | None, limit: int, adjacent: bool = True) -> float:
    """Expected return of a joint policy [CELLS, ACTIONS], or the optimum, by dynamic programming. The step at the limit pays nothing."""
    reward, after, last = MODEL
    v = np.zeros(CELLS)
    for _ in range(limit - 1):
        q = reward + ~last * v[after]
        v = q.max(1) if policy is None else (policy * q).sum(1)
    return v[index(Bridge(1, adjacent=adjacent).reset([0]).state)].item()


def clone(d, episodes: np.ndarray | None = None) -> tuple[float, float]:
    """What independent and joint behavior cloning are worth: frequencies in the data, uniform where a state is not in the data."""
    of_step = np.repeat(np.arange(d.episodes), d.lengths)
    weight = np.ones(d.episodes) if episodes is None else np.bincount(episodes, minlength=d.episodes)
    counts = np.zeros((CELLS, 5, 5))
    np.add.at(counts, (index(d.state[np.arange(d.steps) + of_step]), *d.actions.T.astype(int)), weight[of_step])

    def normal(x):
        total = x.sum(-1, keepdims=True)
        return np.where(total > 0, x / np.maximum(total, 1), 1 / x.shape[-1])

    independent = normal(counts.sum(2))[:, :, None] * normal(counts.sum(1))[:, None, :]
    return evaluate(independent.reshape(CELLS, ACTIONS), 20), evaluate(normal(counts.reshape(CELLS, ACTIONS)), 20)


@recorded
@pytest.mark.parametrize(("file", "transitions"), [("optimal", 4000), ("mix", 28885)])
def test_replaying_the_recorded_bridge(file, transitions):
    with np.load(RECORDINGS / f"bridge_{file}.npz") as f:
        x = {key: f[key] for key in ("state", "obs", "actions", "reward", "terminated", "filled")}
    lengths = x["filled"][..., 0].sum(1) - 1
    env, checked = Bridge(len(lengths), limit=50), 0
    observation = env.reset(range(len(lengths)))
    np.testing.assert_array_equal(observation.state, x["state"][:, 0])
    for t in range(50):
        live = t < lengths
        step = env.step(x["actions"][:, t, :, 0])
        np.testing.assert_array_equal(step.observation.state[live], x["state"][live, t + 1])
        np.testing.assert_array_equal(step.observation.obs[live], x["obs"][live, t + 1])
        np.testing.assert_array_equal(step.rewards[live].astype(np.float32), x["reward"][live, t, 0])
        np.testing.assert_array_equal((step.terminated | step.truncated)[live], x["terminated"][live, t, 0] == 1)
        checked += live.sum()
    assert checked == transitions


@pytest.mark.parametrize("quality", ["optimal", "mix"])
def test_references_of_bridge(quality):
    uniform = np.full((CELLS, ACTIONS), 1 / ACTIONS)
    assert TASKS[f"bridge-{quality}"].reference == pytest.approx((evaluate(uniform, 20), evaluate(None, 20)), abs=1e-5)


def test_exact_values_of_bridge():
    uniform = np.full((CELLS, ACTIONS), 1 / ACTIONS)
    assert evaluate(uniform, 20) == pytest.approx(-7.09992, abs=1e-4)
    assert evaluate(uniform, 50) == pytest.approx(-17.55857, abs=1e-4)
    for limit in (9, 20, 50):
        assert evaluate(None, limit) == pytest.approx(-1.2354526, abs=1e-6)
        assert evaluate(None, limit, adjacent=False) == pytest.approx(-1.5516804, abs=1e-6)


CLONED = {"optimal": (-3.2818, -1.26202), "mix": (-5.9614, -4.7890)}  # of AlberDICE's recordings: independent, joint


@recorded
@pytest.mark.parametrize("quality", CLONED)
def test_cloning_the_recorded_bridge(quality):
    d = read("pymarl", RECORDINGS / f"bridge_{quality}.npz", TASKS[f"bridge-{quality}"])
    assert clone(d) == pytest.approx(CLONED[quality], abs=1e-4)


@pytest.mark.parametrize("quality", CLONED)
def test_cloning_our_bridge_is_worth_the_same(quality):
    """Two samples of one process differ by no more than 4 standard errors (bootstrap over episodes)."""
    d = generate.bridge(TASKS[f"bridge-{quality}"])
    rng = np.random.default_rng(0)
    halves = np.split(np.arange(d.episodes), d.episodes // 500)  # random and optimal episodes are separate samples
    draws = [clone(d, np.concatenate([rng.choice(half, len(half)) for half in halves])) for _ in range(25)]
    error = np.sqrt(2) * np.std(draws, 0)
    assert (abs(np.subtract(clone(d), CLONED[quality])) <= 4 * error).all(), (clone(d), error)
    assert (4 * error < 0.5).all()  # the comparison means something


def test_our_optimal_bridge():
    d = generate.bridge(TASKS["bridge-optimal"])
    assert d.episodes == 500
    assert (d.lengths == 8).all()
    assert d.terminated.sum() == 500
    assert not d.truncated.any()
    np.testing.assert_allclose(np.unique(d.returns.round(5)), [-1.2904, -1.25907, -1.23545], atol=1e-5)
    paths = {d.state[e * 9 : e * 9 + 9].tobytes() for e in range(500)}
    assert len(paths) == 16  # as in the recordings
    assert both_arrived(d.state[8::9]).all()


@recorded
def test_our_paths_are_the_recorded_ones():
    task = TASKS["bridge-optimal"]
    ours, theirs = generate.bridge(task), read("pymarl", RECORDINGS / "bridge_optimal.npz", task)
    moves = [{(d.state[e * 9 : e * 9 + 9].tobytes()) for e in range(500)} for d in (ours, theirs)]
    assert moves[0] == moves[1]


def test_mix_ends_with_the_optimal_episodes():
    mix, optimal = generate.bridge(TASKS["bridge-mix"]), generate.bridge(TASKS["bridge-optimal"])
    start = mix.offset[500]
    for name in ("actions", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(mix, name)[start:], getattr(optimal, name))
    np.testing.assert_array_equal(mix.obs[start + 500 :], optimal.obs)
