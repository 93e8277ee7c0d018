"""Behavior policies: their arithmetic, their files, how they are trained and chosen."""

import math
import re
import types
import zipfile

import numpy as np
import pytest
import torch

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.datasets.behavior.policy import Net, Policy, rounded, save
from inspo_benchmark.datasets.behavior.rollout import rollout, uniforms
from inspo_benchmark.datasets.behavior.smac_policy import act, exp, load, log, shapes, uniform
from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import default_reward_config
from inspo_benchmark.tools.behavior import __main__, mappo, training

MAP = find_map("3m")


def policy(key: int = 0, scale: float = 0.3, map=MAP, **about) -> Policy:
    rng = np.random.default_rng(key)
    net = Net(*(rng.normal(0, scale, shape).astype(np.float32) for shape in shapes(map, 64)))
    numbers = {"steps": 1000, "win_rate": 0.5, "mean_return": 10.0, "greedy_win_rate": 0.4, "greedy_return": 9.0}
    return Policy(map.name, rounded(net), **numbers | about)


def scenes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Observations with many zeros and masks with at least one available action."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(0, 1, (count, MAP.n, MAP.obs)) * (rng.random((count, MAP.n, MAP.obs)) < 0.6)
    avail = rng.random((count, MAP.n, MAP.actions)) < 0.4
    avail[..., 1] |= ~avail.any(-1)
    return obs.astype(np.float32), avail


# --- arithmetic


def test_exponential_and_logarithm():
    rng = np.random.default_rng(0)
    x = -np.concatenate([rng.exponential(3, 20000), rng.uniform(0, 699, 2000), math.log(2) * (np.arange(50) + 0.5), [0.0]])
    y = np.array([exp(v) for v in x])
    ulps = np.abs(y - np.exp(x)) / np.spacing(np.exp(x))
    assert ulps.max() <= 2
    assert exp(0.0) == 1
    assert exp(-701.0) == 0
    x = 1 + rng.exponential(8, 20000)
    ulps = np.abs([log(v) for v in x] - np.log(x)) / np.spacing(np.log(x))
    assert ulps.max() <= 3
    assert log(1.0) == 0


def test_the_exponential_is_monotone():
    edges = -math.log(2) * (np.arange(60) + 0.5)  # where the power of two changes
    x = np.concatenate([np.linspace(-50, 0, 30001), *(edge + np.arange(-50, 50) * 4 * np.spacing(edge) for edge in edges)])
    x = np.sort(x[x <= 0])
    assert (np.diff([exp(v) for v in x]) >= 0).all()


def test_network_is_that_of_torch():
    p, (obs, avail) = policy(), scenes(300)
    x = np.concatenate([obs, np.broadcast_to(np.eye(MAP.n), (300, MAP.n, MAP.n))], -1)
    w1, b1, w2, b2, w3, b3 = (torch.from_numpy(w).double() for w in p.net)
    z = torch.relu(torch.relu(torch.from_numpy(x) @ w1 + b1) @ w2 + b2) @ w3 + b3
    z = z.masked_fill(~torch.from_numpy(avail), -torch.inf).log_softmax(-1)
    for u in (None, uniforms(0, np.arange(300), 0, MAP.n)):
        action, logp = act(p, obs, avail, u)
        expected = 0.0 if u is None else z.gather(-1, torch.from_numpy(action)[..., None])[..., 0]
        np.testing.assert_allclose(logp, expected, atol=2e-5)
    assert (act(p, obs, avail, None)[0] == z.argmax(-1).numpy()).all()


def test_an_action_is_the_same_alone():
    p, (obs, avail) = policy(), scenes(50)
    u = uniforms(3, np.arange(50), 7, MAP.n)
    together = act(p, obs, avail, u)
    for e in range(50):
        alone = act(p, obs[e : e + 1], avail[e : e + 1], uniforms(3, np.array([e]), 7, MAP.n))
        assert all((x[e] == y[0]).all() for x, y in zip(together, alone))


@pytest.mark.parametrize("noise", [{}, {"temperature": 0.5}, {"epsilon": 0.3, "temperature": 0.0}, {"epsilon": 0.2}])
def test_actions_are_sampled_with_their_probabilities(noise):
    n = 40000
    p, (obs, avail) = policy(scale=0.15, **noise), scenes(1, seed=2)
    expected = probabilities(p, obs, avail)[0]
    draws, logp = act(p, obs.repeat(n, 0), avail.repeat(n, 0), uniforms(5, np.arange(n), 0, MAP.n))
    for i in range(MAP.n):
        actions, counts = np.unique(draws[:, i], return_counts=True)
        assert avail[0, i, actions].all()
        said = np.array([np.exp(logp[draws[:, i] == a, i][0]) for a in actions])
        assert abs(said.sum() - 1) < 1e-9
        np.testing.assert_allclose(said, expected[i, actions], rtol=2e-5)
        assert (np.abs(counts / n - said) < 5 * np.sqrt(said * (1 - said) / n)).all()


def probabilities(p: Policy, obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """epsilon / k + (1 - epsilon) softmax(z / temperature), in float64."""
    w1, b1, w2, b2, w3, b3 = (w.astype(float) for w in p.net)
    x = np.concatenate([obs, np.broadcast_to(np.eye(MAP.n), (len(obs), MAP.n, MAP.n))], -1)
    z = np.where(avail, np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3, -np.inf)
    z -= z.max(-1, keepdims=True)
    soft = np.exp(z / p.temperature) if p.temperature else (z == 0).astype(float)
    return np.where(avail, p.epsilon / avail.sum(-1, keepdims=True) + (1 - p.epsilon) * soft / soft.sum(-1, keepdims=True), 0)


def test_uniform_policy():
    obs, avail = scenes(200)
    action, logp = act(uniform(MAP), obs, avail, uniforms(0, np.arange(200), 0, MAP.n))
    np.testing.assert_allclose(logp, -np.log(avail.sum(-1)), atol=1e-12)
    assert np.take_along_axis(avail, action[..., None], -1).all()


def test_uniforms_depend_on_their_place_alone():
    u = uniforms(1, np.arange(2000), 3, 5)
    assert (u[[7, 900]] == uniforms(1, np.array([7, 900]), 3, 5)).all()
    for other in (uniforms(2, np.arange(2000), 3, 5), uniforms(1, np.arange(2000), 4, 5), uniforms(1, np.arange(1, 2001), 3, 5)):
        assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(u.T) - np.eye(5)).max() < 0.12
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 50  # chi-squared, 19 degrees of freedom: p = 1e-4


def test_an_episode_does_not_depend_on_the_batch():
    p = policy()
    seeds = np.array([5, 0, 77, 5])
    whole = rollout(Smac("3m", 4), p, seeds, key=9)
    assert (whole.lengths[0], whole.returns[0]) == (whole.lengths[3], whole.returns[3])
    for e, seed in enumerate(seeds):
        alone = rollout(Smac("3m", 1), p, [seed], key=9)
        a, b = whole.offset[e], whole.offset[e + 1]
        for name in ("actions", "logp", "rewards"):
            assert (getattr(whole, name)[a:b] == getattr(alone, name)).all()
        for name in ("obs", "state", "avail"):
            assert (getattr(whole, name)[a + e : b + e + 1] == getattr(alone, name)).all()


# --- files


def test_a_saved_policy_is_loaded_unchanged(tmp_path):
    p = policy(seed=2, epsilon=0.05, temperature=0.0)
    save(p, tmp_path / "p.npz")
    q = load(tmp_path / "p.npz", MAP)
    assert q._replace(net=None) == p._replace(net=None)
    assert all((x == y).all() and y.dtype == np.float32 for x, y in zip(p.net, q.net))
    first = (tmp_path / "p.npz").read_bytes()
    save(q, tmp_path / "p.npz")
    assert (tmp_path / "p.npz").read_bytes() == first


@pytest.mark.parametrize("damage", ["encrypted", "a damaged header"])
def test_policies_that_numpy_does_not_read(damage, tmp_path):
    """It raises other exceptions over these."""
    path = tmp_path / "p.npz"
    save(policy(), path)
    content = path.read_bytes()
    if damage == "encrypted":  # the flags of all members, in their headers and in the directory
        content = re.sub(rb"PK\x01\x02....\x00", lambda x: x[0][:-1] + b"\x01", content, flags=re.S)
        content = re.sub(rb"PK\x03\x04..\x00", lambda x: x[0][:-1] + b"\x01", content, flags=re.S)
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["w1.npy"] = b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': (((((\n"
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)
    with pytest.raises(UserError, match="cut short, damaged, or no policy"):
        load(path, MAP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": "8m"}, "a policy for '8m', not for 3m"),
        ({"version": 1}, "format version 1, this program reads 2"),
        ({"epsilon": 1.5}, "epsilon 1.5 and temperature 1.0, should be in 0 .. 1 and not negative"),
        ({"temperature": np.nan}, "epsilon 0.0 and temperature nan, should be"),
        ({"steps": 1.5}, "steps is not one value of kind i"),
        ({"w2": np.zeros((64, 63), "<f2")}, r"w2 is float16 \(64, 63\), should be float16 \(64, 64\) on 3m"),
        ({"w1": np.zeros((33, 64), "<f4")}, "w1 is float32"),
        ({"b3": np.full(MAP.actions, np.nan, "<f2")}, "NaN or infinity in b3"),
        ({"b1": np.zeros(0, "<f2")}, "0 hidden units, should be"),
        ({"b1": np.array(None)}, "cut short, damaged, or no policy"),
        ({"w3": None}, "cut short, damaged, or no policy .*w3"),
    ],
)
def test_faulty_policies(change, message, tmp_path):
    path = tmp_path / "p.npz"
    save(policy(), path)
    with np.load(path) as file:
        x = dict(file) | change
    np.savez(path, **{name: y for name, y in x.items() if y is not None})
    with pytest.raises(UserError, match=message) as e:
        load(path, MAP)
    assert "\n" not in str(e.value)
    assert "tools.behavior.mappo 3m" in str(e.value)


def test_damaged_policies(tmp_path):
    path = tmp_path / "p.npz"
    save(policy(), path)
    content = path.read_bytes()
    middle = len(content) // 2
    for damaged in (b"", b"junk", content[:middle], content[:-30], content[:middle] + b"xxxx" + content[middle + 4 :]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cut short, damaged, or no policy"):
            load(path, MAP)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w1.npy", bytes(10**6))
    with pytest.raises(UserError, match="compressed"):
        load(path, MAP)
    with pytest.raises(UserError, match="no such policy; there are: p"):
        load(tmp_path / "expert.npz", MAP)


# --- training


def test_gradient_of_the_surrogate_is_that_of_torch():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(200, 14, generator=g, dtype=torch.float64).float().requires_grad_()
    avail = torch.rand(200, 14, generator=g) < 0.5
    avail[:, 1] = True
    action = torch.multinomial(avail.float(), 1, generator=g)
    log = z.masked_fill(~avail, -1e9).log_softmax(-1)
    chosen, gain = log.gather(1, action)[:, 0], torch.randn(200, generator=g)
    old = chosen.detach().double() + 0.3 * torch.randn(200, generator=g)
    ratio = (chosen - old).exp()
    assert ((ratio - 1).abs() > 0.2).float().mean() > 0.2
    entropy = -(log.exp() * log).sum(-1)
    (-torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain) - mappo.ENTROPY_COEF * entropy).mean().backward()
    slope = torch.empty_like(z)
    mappo.surrogate(*(x.detach().numpy() for x in (z, avail, action[:, 0], old, gain)), 0.2, slope.numpy())
    torch.testing.assert_close(slope, z.grad, atol=1e-7, rtol=1e-4)


def test_advantages():
    """Against the definition: the sum of discounted temporal differences, with a value after the end only when the time was up."""
    rng = np.random.default_rng(0)
    offset, terminated = np.array([0, 3, 4, 9]), np.array([True, False, False])
    rewards, values, out = rng.normal(size=9), rng.normal(size=12), np.empty(9)
    mappo.advantages(rewards, values, offset, terminated, out)
    for e in range(3):
        a, b = offset[e], offset[e + 1]
        v = values[a + e : b + e + 1].copy()
        v[-1] *= not terminated[e]
        error = rewards[a:b] + mappo.GAMMA * v[1:] - v[:-1]
        for t in range(b - a):
            expected = sum((mappo.GAMMA * mappo.GAE_LAMBDA) ** k * x for k, x in enumerate(error[t:]))
            assert out[a + t] == pytest.approx(expected, abs=1e-12)


def test_exported_policy_is_the_network_that_is_trained():
    run = mappo.Mappo(MAP, 10**6, 0)
    run.learn(rollout(Smac("3m", 20), run.policy(), np.arange(20)))
    played = rollout(Smac("3m", 20), run.policy(), np.arange(20, 40))
    x = run.obs(torch.from_numpy(played.obs[played.now]))
    who = torch.eye(MAP.n).expand(len(x), -1, -1)
    with torch.no_grad():
        z = run.actor(torch.cat([x, who], -1)).masked_fill(~torch.from_numpy(played.avail[played.now]), -1e9).log_softmax(-1)
    logp = z.gather(-1, torch.from_numpy(played.actions)[..., None])[..., 0]
    torch.testing.assert_close(logp, torch.from_numpy(played.logp).float(), atol=1e-4, rtol=0)


@pytest.fixture
def short(monkeypatch):
    """A training of seconds."""
    monkeypatch.setattr(mappo, "EVAL_EPISODES", 32)
    monkeypatch.setattr(training, "FIRST_SAVE", 3000)
    monkeypatch.setattr(mappo, "SAVES", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_training_learns(short, tmp_path):
    mappo.train(MAP, 24_000, 0, tmp_path)
    trained = [load(path, MAP) for path in sorted(tmp_path.glob("policy-*.npz"))]
    assert trained[0].steps == 0
    assert trained[-1].steps >= 24_000
    assert trained[-1].mean_return > 2 * trained[0].mean_return > 0


def test_an_interrupted_training_resumes_exactly(short, tmp_path, monkeypatch):
    mappo.train(MAP, 10_000, 1, tmp_path / "once")
    monkeypatch.setattr(mappo, "CHECKPOINT_INTERVAL", 0.0)
    learn = mappo.Mappo.learn

    def interrupted(self, played):
        learn(self, played)
        if self.steps > 6000:
            raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(mappo.Mappo, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mappo.train(MAP, 10_000, 1, tmp_path / "twice")
    mappo.train(MAP, 10_000, 1, tmp_path / "twice")
    names = sorted(path.name for path in (tmp_path / "once").glob("*.npz"))
    assert len(names) >= 3
    assert all((tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes() for name in names)
    assert len(list((tmp_path / "twice").glob("*.npz"))) == len(names)


def test_slowed_enemies_walk_slowly(monkeypatch):
    map = find_map("6h_vs_8z")

    def walked(env) -> np.ndarray:
        env.reset([0])
        start = env.battles.frame[0, map.n :, :2].copy()
        env.step(np.ones((1, map.n), int))
        return np.hypot(*(env.battles.frame[0, map.n :, :2] - start).T)

    slow, fast = walked(mappo.SlowedSmac(map.name, 1, default_reward_config(map), 0.5)), walked(Smac(map.name, 1))
    np.testing.assert_allclose([np.median(slow), np.median(fast)], [2.25 / 4, 2.25 / 2], atol=0.01)  # 2.25 cells a second; some push

    monkeypatch.setitem(mappo.INITIAL_ENEMY_SPEED, MAP.name, 0.6)
    run = mappo.Mappo(MAP, 1000, 0)
    assert run.speed == 0.6
    played = rollout(Smac(MAP.name, 8), run.policy(), range(8))
    for won, speed in ((True, 0.61), (True, 0.62), (False, 0.61), (False, 0.6), (False, 0.6)):  # never below where it began
        run.learn(played._replace(won=np.full(8, won)))
        assert run.speed == pytest.approx(speed)
    run.speed = 0.995
    run.learn(played._replace(won=np.full(8, True)))
    assert run.speed == 1.0


def test_mistakes_of_the_trainers_user(short, tmp_path, capsys):
    def error(*argv: str) -> str:
        assert mappo.main([*argv, "--out", str(tmp_path)]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert "did you mean 3m" in error("3mm")
    for steps in "0", "nan", "inf":
        assert "should be a number from 1 on" in error("3m", "--steps", steps)
    assert "seed=-1: write an integer of at least 0" in error("3m", "--seed", "-1")
    assert "--seed 9223372036854775808: the largest one is 2^63 - 1" in error("3m", "--seed", str(2**63))
    mappo.train(MAP, 1, 3, tmp_path)
    assert "holds another training (3m --steps 1 --seed 3)" in error("3m", "--steps", "1", "--seed", "4")
    (tmp_path / "training.pt").write_bytes(b"junk")
    assert "damaged" in error("3m", "--steps", "1")


# --- shipping


@pytest.fixture
def shipping(tmp_path, monkeypatch):
    """A function that ships trainings on 3m, given as lists of numbers of their policies. Returns file name -> policy."""
    monkeypatch.setattr(__main__, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(__main__, "FRESH_EPISODES", 8)
    (tmp_path / "shipped" / "3m").mkdir(parents=True)
    save(policy(), tmp_path / "shipped" / "3m" / "replay-99.npz")

    def ship(*trainings: list[dict], code: int = 0) -> dict[str, Policy]:
        folders = [tmp_path / f"3m-{k}" for k in range(len(trainings))]
        for seed, (folder, trained) in enumerate(zip(folders, trainings)):
            folder.mkdir()
            for k, numbers in enumerate(trained):
                save(policy(k, steps=100 * k, seed=seed, **numbers), folder / f"policy-{k:03}.npz")
        assert __main__.main(["ship", "3m", *map(str, folders)]) == code
        return {path.stem: load(path, MAP) for path in (tmp_path / "shipped" / "3m").glob("*.npz")}

    return ship


def rates(*greedy: float, sampled: dict[int, float] | None = None) -> list[dict]:
    """Policies with these greedy win rates; the sampled ones are the same but for those given."""
    return [{"greedy_win_rate": x, "greedy_return": 20 * x, "win_rate": (sampled or {}).get(k, x)} for k, x in enumerate(greedy)]


def test_ship_chooses_by_greedy_wins(shipping, capsys):
    one = rates(0.0, 0.3, 0.1, 0.28, 0.35, 0.9, 1.0, 0.31, 0.9, sampled={1: 0.05})  # 1 is sampled otherwise, 7 comes after the expert
    two = rates(0.0, 0.31, 0.2, 0.95)
    chosen = shipping(one, two)
    assert capsys.readouterr().out.count("\n") == len(chosen)
    steps = {name: p.steps for name, p in chosen.items()}
    assert (steps["expert-0"], steps["expert-1"], steps["medium-0"], steps["medium-1"]) == (600, 300, 300, 100)
    assert [(chosen[f"replay-{k:02}"].seed, steps[f"replay-{k:02}"]) for k in range(6)] == [
        *((0, x) for x in (0, 100, 200, 300)),
        *((1, x) for x in (0, 100)),
    ]
    assert len(chosen) == 10
    assert all(chosen[f"replay-{k:02}"][3:6] == (k // 4, 0.0, 1.0) for k in range(6))  # as in training
    noise = {p[4:6] for name, p in chosen.items() if not name.startswith("replay")}
    assert len(noise) == 1
    assert noise < set(__main__.NOISES)


def test_shipped_numbers_are_from_battles_that_selected_no_policy(shipping, monkeypatch):
    compared = []
    add_noise = __main__.add_noise
    monkeypatch.setattr(__main__, "add_noise", lambda *groups: compared.extend(groups[0] + groups[1]) or add_noise(*groups))
    chosen = shipping(rates(0.0, 0.3, 1.0))
    seeds, env = np.arange(__main__.FRESH_SEED, __main__.FRESH_SEED + 8), Smac("3m", 8)
    assert set(chosen) == {"expert-0", "medium-0", "replay-00", "replay-01"}
    for p in chosen.values():
        plain = p._replace(epsilon=0.0, temperature=1.0)
        sampled, greedy = (rollout(env, plain, seeds, greedy=way) for way in (False, True))
        assert (p.win_rate, p.mean_return) == (sampled.won.mean(), sampled.returns.mean())
        assert (p.greedy_win_rate, p.greedy_return) == (greedy.won.mean(), greedy.returns.mean())
    assert [p[6:] for p in compared] == [chosen[name][6:] for name in ("medium-0", "expert-0")]  # the noise is compared with these
    assert not set(seeds) & set(range(mappo.EVAL_SEED, mappo.EVAL_SEED + mappo.EVAL_EPISODES))


def test_the_noise_is_one_that_the_policies_survive(monkeypatch, capsys):
    """Greedily always won, and with 5 % random actions never: the next noise is taken, or the one with the smallest change."""
    survived = {}
    monkeypatch.setattr(
        __main__, "rollout", lambda env, p, seeds: types.SimpleNamespace(won=np.full(10, survived[p.epsilon, p.temperature]))
    )
    group = [policy(greedy_win_rate=1.0)]
    for wins, expected in (((0.95, 1, 1), 0), ((0.5, 0.9, 1), 1), ((0.5, 0.2, 0.6), 2), ((0.5, 0.2, 0.3), 0)):
        survived.update(zip(__main__.NOISES, wins))
        mediums, experts = __main__.add_noise(group, group, MAP)
        assert (experts[0].epsilon, experts[0].temperature) == (mediums[0].epsilon, mediums[0].temperature) == __main__.NOISES[expected]
    least = "warning: on 3m every noise changes the win rate by more than 0.1; the data get the one that changes it least, by"
    assert capsys.readouterr().out.splitlines() == [
        f"{least} 0.40: epsilon 0, temperature 0.25",
        f"{least} 0.50: epsilon 0.05, temperature 0",
    ]


def test_some_maps_have_imperfect_experts():
    trained = [policy(greedy_win_rate=x, win_rate=x) for x in (0, 0.15, 0.7, 0.83, 0.99)]
    assert __main__.select_by_wins(trained, "5m_vs_6m") == (3, 1)
    assert __main__.select_by_wins(trained, "3m") == (4, 1)


def test_returns_choose_in_mujoco():
    trained = [policy(mean_return=x, win_rate=math.nan) for x in (-100, 200, 480, 600, 1100, 900)]
    assert __main__.select_by_return(trained, "hopper_3x1") == (4, 2)
    with pytest.raises(UserError, match="no policy is better than the first one"):
        __main__.select_by_return(trained[-2:], "hopper_3x1")


def test_a_misspelled_scenario_is_suggested(tmp_path, capsys):
    for name, meant in (("3mm", "3m"), ("hoper_3x1", "hopper_3x1")):
        assert __main__.main(["ship", name, str(tmp_path)]) == 2
        assert f"no scenario '{name}'; did you mean {meant}?" in capsys.readouterr().err


def test_mistakes_when_shipping(shipping, tmp_path, capsys):
    before = shipping([], code=2)
    assert "no policies" in capsys.readouterr().err
    for folder in tmp_path.glob("3m-*"):
        folder.rmdir()
    assert shipping(rates(0.0, 0.35, 1.0, sampled={1: 0.0}), code=2).keys() == before.keys()  # nothing was deleted
    error = capsys.readouterr().err
    assert "training 0: no policy before the expert wins about 0.30 of its battles, greedy and sampled alike (the nearest 0.00)" in error
    assert error.count("\n") == 1
    assert __main__.main(["ship", "3mm", str(tmp_path)]) == 2
    assert "did you mean 3m" in capsys.readouterr().err
