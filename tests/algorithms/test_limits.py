"""Where a method becomes another one, simpler or known: the cheapest oracles."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch.utils._pytree import tree_map

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.types import Batch
from inspo_benchmark.learning.algorithm import masked_mean, td_lambda_returns
from support.toy import SPACES, Lab, One, close

ALGORITHMS.discover()
pytestmark = pytest.mark.usefixtures("double")
kinds = pytest.mark.parametrize("kind", list(SPACES))
memories = pytest.mark.parametrize("memory", ["mlp", "gru"])
HUGE = 1e9


def policy_after(algo, kind, **config):
    """The parameters of the policies after two updates, from those of BC."""
    lab = Lab(algo, kind, batch_size=8, lr=1e-2, max_grad_norm=10.0, **config)
    bc = Lab("bc", kind, batch_size=8, lr=1e-2, max_grad_norm=10.0, **{k: v for k, v in config.items() if k in ("network", "share_params")})
    s, cloned = lab.init(), bc.init()
    s = s._replace(params={**s.params, "pi": cloned.params["pi"]})
    for call in range(2 * lab.algorithm.turns):
        batch, draw = lab.sampler.draw(call)
        s, _ = lab.algorithm.pack(1)(s, batch, draw)
        cloned, _ = bc.algorithm.pack(1)(cloned, batch, draw)
    return s.params["pi"], cloned.params["pi"]


# --- a regulariser without end, or no advantage: the data are cloned


@kinds
@memories
@pytest.mark.parametrize(
    ("algo", "config"), [("omiga", dict(alpha=HUGE * 1e3)), ("comadice", dict(alpha=HUGE * 1e3)), ("iql", dict(beta=0.0))]
)
def test_without_an_advantage_policies_clone(algo, config, kind, memory):
    ours, cloned = policy_after(algo, kind, network=memory, share_params=True, **config)
    torch.testing.assert_close(ours, cloned, rtol=0, atol=1e-6)


@kinds
def test_icq_at_an_infinite_temperature_clones(kind):
    """Weights are 1 for one agent; with more of them k_i, which is theirs to divide, is what remains."""
    one = One("icq", kind, agents=1, beta=HUGE)
    weights = one.a.weights(one.on, one.b, one.d.u["own"])
    data = one.b.mask > 0
    torch.testing.assert_close(weights[data], torch.ones_like(weights[data]), rtol=0, atol=1e-6)
    more = One("icq", kind, beta=HUGE)
    weights = more.a.weights(more.on, more.b, more.d.u["own"])
    k = more.on.mix(torch.zeros_like(weights), more.b.now.state)[1]
    data = more.b.mask > 0
    torch.testing.assert_close(weights[data], k[data], rtol=0, atol=1e-6)
    torch.testing.assert_close(k.sum(-1), torch.ones_like(k[..., 0]))


@kinds
@memories
@pytest.mark.parametrize("share", [False, True])
def test_inspo_at_an_infinite_alpha_clones_in_turn(kind, memory, share):
    """Where the model of the data factorizes: K_i does not depend on the agent's own action then, and (6) has w = 1."""
    limit = dict(alpha=HUGE, behavior="factored")
    one, bc = One("inspo", kind, network=memory, share_params=share, lr=1e-2, **limit), Lab("bc", kind, lr=1e-2)
    theirs, b = one.s, one.b

    def loss(on, tg, i):
        log_pi = bc.algorithm.space.log_prob(on.pi(b.obs[:, :, i], agent=i)[:, :-1], b.now.actions[:, :, i], b.now.avail[:, :, i])
        return -masked_mean(b.mask, log_pi)

    for i in one.d.u["turns"].argsort().tolist():
        theirs, _ = one.a.gradient_step(theirs, "pi", loss, i, only=i)
    torch.testing.assert_close(one.updated().params["pi"], theirs.params["pi"], rtol=0, atol=1e-6)


@kinds
def test_inspo_of_one_agent_has_no_teammates(kind):
    one = One("inspo", kind, agents=1)
    h = one.on.pi(one.b.obs)
    assert not one.a.ratios(one.on, one.b, h).any()
    still = one.a.clash(one.on, one.b.now, 0, h[:, :-1], one.d.u["team"][:, :, :-1])
    assert not still.any()


# --- CFCQL


def discrete_cql(one):
    """CQL (Kumar et al. 2020) on double Q-learning with TD(lam), for one agent whose value goes through a mixer."""
    b, c = one.b, one.cfg
    best = torch.where(b.avail, one.on.q(b.obs), -torch.inf)[:, 1:, 0].argmax(-1)
    v = one.tg.mix(one.tg.q(b.obs)[:, 1:].gather(-1, best[..., None, None])[..., 0], b.next.state)
    y = td_lambda_returns(v, b, c.gamma, c.td_lambda)
    q = torch.stack([one.on.mix(one.on.q(b.now.obs)[..., a], b.now.state) for a in range(3)], -1)
    data = q.gather(-1, b.now.actions)[..., 0]
    over = torch.where(b.now.avail[:, :, 0], q, -torch.inf).logsumexp(-1)
    return masked_mean(b.mask, 0.5 * (data - y) ** 2) + c.alpha * masked_mean(b.mask, torch.where(b.mask > 0, over - data, 0.0))


@memories
@pytest.mark.parametrize("temp", [0.0, 3.0])
def test_cfcql_of_one_agent_is_cql(memory, temp):
    one = One("cfcql", "discrete", agents=1, network=memory, alpha=2.0, lambda_temp=temp)
    y = one.a.target(one.on, one.tg, one.b, one.d.u)
    close(one.a.critic_loss(one.on, one.tg, one.b, y, one.d.u), discrete_cql(one))


@pytest.mark.parametrize("sets", ["importance", "uniform", "noisy"])
def test_cfcql_of_one_agent_is_macql(sets):
    """Continuous: one agent's actions are the joint ones."""
    both = [One("cfcql", "continuous", agents=1, alpha=2.0, candidate_source=sets, counterfactual=x) for x in (True, False)]
    u = both[0].d.u["penalty"]
    y = both[0].a.target(both[0].on, both[0].tg, both[0].b, both[0].d.u)
    losses = [one.a.critic_loss(one.on, one.tg, one.b, y, dict(penalty=x)) for one, x in zip(both, (u, u[:, :, 0]))]
    close(*losses)


@memories
@pytest.mark.parametrize("counterfactual", [True, False])
def test_cfcql_with_alpha_zero_is_qmix(memory, counterfactual):
    one = One("cfcql", "discrete", network=memory, alpha=0.0, counterfactual=counterfactual)
    b, c = one.b, one.cfg
    best = torch.where(b.avail, one.on.q(b.obs), -torch.inf)[:, 1:].argmax(-1, keepdim=True)
    y = td_lambda_returns(one.tg.mix(one.tg.q(b.obs)[:, 1:].gather(-1, best)[..., 0], b.next.state), b, c.gamma, c.td_lambda)
    total = one.on.mix(one.on.q(b.now.obs).gather(-1, b.now.actions[..., None])[..., 0], b.now.state)
    ours = one.a.critic_loss(one.on, one.tg, b, one.a.target(one.on, one.tg, b, one.d.u), one.d.u)
    close(ours, masked_mean(b.mask, 0.5 * (total - y) ** 2))


@pytest.mark.parametrize(("settings", "clones"), [({}, True), (dict(lambda_temp=0.0), False), (dict(counterfactual=False), False)])
def test_cfcql_clones_the_data_only_where_something_depends_on_it(settings, clones):
    one = One("cfcql", "discrete", **settings)
    assert [stage.name for stage in one.a.stages()] == (["cloning", "training"] if clones else ["training"])
    assert sum(stage.num_updates for stage in one.a.stages()) == one.a.cfg.num_updates


def test_cfcql_with_alpha_zero_is_central_td3():
    one = One("cfcql", "continuous", alpha=0.0, td_lambda=0.0)
    b, noise = one.b, 0.05 * torch.special.ndtri(one.d.u["target"])

    def q(f, x, act):
        joint = torch.cat([x.state, act.flatten(-2)], -1)[..., None, :]
        return f.q1(joint)[..., 0, 0], f.q2(joint)[..., 0, 0]

    following = q(one.tg, b.next, (torch.tanh(one.tg.pi(b.obs)[:, 1:]) + noise).clamp(-1, 1))
    y = b.rewards + one.cfg.gamma * (1 - b.terminated) * torch.minimum(*following)
    ours = one.a.critic_loss(one.on, one.tg, b, one.a.target(one.on, one.tg, b, one.d.u), one.d.u)
    close(ours, sum(masked_mean(b.mask, (x - y) ** 2) for x in q(one.on, b.now, b.now.actions)))


def test_equal_weights_are_the_average_over_agents():
    one = One("cfcql", "discrete", lambda_temp=0.0)
    q = one.a.critics(one.on, one.b)[0]
    _, deviation = one.a.local(one.on, one.b, one.d.u, q)
    assert deviation.std(-1).min() > 0
    close(one.a.weighting(deviation), torch.full((*one.b.mask.shape, 3), 1 / 3))


def test_the_joint_penalty_is_the_sum_over_joint_actions():
    """MACQL with every joint action as a candidate."""
    one = One("cfcql", "discrete", counterfactual=False, batch_size=4)
    b = one.b._replace(avail=torch.ones_like(one.b.avail))
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))  # [27, N]
    q = one.a.critics(one.on, b)[0]
    u = ((every + 0.5) / 3)[:, None, None].expand(27, *b.mask.shape, 3)
    over = one.a.joint(one.on, b, dict(penalty=u), q)
    close(over, q(every.expand(*b.mask.shape, 27, 3)).logsumexp(-1))


# --- OMAR


@memories
def test_omar_with_coefficient_zero_is_its_base_continuous(memory):
    """Independent CQL with a deterministic policy: the search has no say."""
    one = One("omar", "continuous", coe=0.0, network=memory, td_lambda=0.0)
    moved = one.a.update(one.s, one.b, one.d._replace(u={**one.d.u, "search": 1 - one.d.u["search"]}))[0]
    close(one.updated().params, moved.params)
    b, x = one.b, one.a.critic_input(one.b.now)
    point = torch.tanh(one.on.pi(b.now.obs))
    value = one.on.q1(x, point.unsqueeze(3))[..., 0]
    loss = -masked_mean(b.mask[..., None], value) + 1e-3 * masked_mean(b.mask[..., None, None], point**2)
    close(one.a.policy_loss(one.on, one.tg, b, torch.zeros_like(point)), loss)


def test_omar_with_coefficient_zero_is_its_base_discrete():
    one = One("omar", "discrete", coe=0.0)
    b, x = one.b, one.a.critic_input(one.b.now)
    p = torch.where(b.now.avail, one.on.pi(b.now.obs), -torch.inf).softmax(-1)
    q = one.on.q1(x, torch.arange(3).expand(p.shape))
    act = b.now.actions[..., None]
    advantage = (q.gather(-1, act)[..., 0] - (p * q).sum(-1)).detach()
    loss = -masked_mean(b.mask[..., None], advantage * (p.gather(-1, act)[..., 0] + 1e-5).log())
    close(one.a.policy_loss(one.on, one.tg, b, one.a.best(one.on, b, one.d.u)), loss)


@kinds
@pytest.mark.parametrize("refit", ["elites", "softmax"])
def test_the_search_finds_the_best(kind, refit):
    one = One("omar", kind, search_refit=refit, search_rounds=4, search_samples=200, search_elites=10, batch_size=2)
    u = torch.as_tensor(np.random.default_rng(0).uniform(size=(4, 2, 3, 3, 200, 1 if kind == "discrete" else 2)))
    if kind == "discrete":
        assert (one.a.search(lambda a: -((a - 2.0) ** 2), u) == 2).all()
    else:
        goal = torch.tensor([0.3, -0.6])
        found = one.a.search(lambda a: -20 * ((a - goal) ** 2).sum(-1), u)
        assert (found - goal).abs().amax() < 0.1


# --- AlberDICE


@kinds
def test_alberdice_of_one_agent_has_no_teammates(kind):
    one = One("alberdice", kind, agents=1)
    k, log_rho = one.a.teammates(one.on, one.b, one.d.agent, one.d.u["own"])
    assert not k.any()
    assert not log_rho.any()


def test_alberdice_does_not_shun_the_end():
    """nu of every state but the absorbing one, moved by a constant: (4) has a minimum. Were ends left out of it, nothing would hold nu
    from above, and the weights of the steps that end an episode would vanish."""
    one = One("alberdice", "discrete", agents=1)
    assert 0 < (one.b.mask * one.b.terminated).sum() < one.b.mask.sum()
    k, log_rho = one.a.teammates(one.on, one.b, one.d.agent, one.d.u["own"])
    rest = one.b, one.d.agent, k, log_rho, one.b.mask, 1.0, one.d.u["pair"]

    def loss(c):
        nu = one.s.params["nu"].clone()
        nu[:, -1] += c  # the bias of the last layer
        return one.a.nu_loss(one.a.online(one.s._replace(params={**one.s.params, "nu": nu})), None, *rest).item()

    assert loss(-1e3) > loss(-1e2) > loss(0)
    assert loss(1e3) > loss(1e2) > loss(0)


def with_constant_nu(one, c):
    """The networks of a run of AlberDICE, with nu = c in every state but the absorbing one."""
    nu = torch.zeros_like(one.s.params["nu"])
    nu[:, -1] = c  # the bias of the last layer
    return one.a.online(one.s._replace(params={**one.s.params, "nu": nu}))


def test_the_absorbing_state_of_alberdice_is_that_of_explicit_rows():
    """Every termination is followed by 1 / (1 - gamma) rows without reward, in which nu is 0 and rho is 1."""
    one = One("alberdice", "discrete", agents=2, gamma=0.9, grad_penalty=0.0)
    rng, alpha, c = np.random.default_rng(0), 0.7, 0.4
    rho = rng.integers(1, 4, one.b.mask.shape)
    b = one.b._replace(mask=torch.ones_like(one.b.mask))
    k = torch.as_tensor(rng.uniform(size=b.mask.shape))
    given = b, one.d.agent, k, torch.as_tensor(np.log(rho)), torch.as_tensor(rho, dtype=b.mask.dtype)
    loss = one.a.nu_loss(with_constant_nu(one, c), None, *given, alpha, one.d.u["pair"])
    weights, nu = [], []
    for row in np.ndindex(b.mask.shape):
        after = 0.0 if b.terminated[row] else c
        advantage = b.rewards[row].item() - alpha * k[row].item() + 0.9 * after - c
        weights.append(rho[row] * np.exp(advantage / alpha))
        nu.append(c)
        if b.terminated[row]:
            weights += 10 * [1.0]
            nu += 10 * [0.0]
    assert len(nu) > b.mask.numel()
    assert loss.item() == pytest.approx(alpha * np.log(np.mean(weights)) + 0.1 * np.mean(nu), abs=1e-10)


@pytest.mark.parametrize(("to_end", "to_go_on", "better"), [(-1.0, -0.5, "end"), (1.0, 0.5, "go on")])
def test_alberdice_ends_an_episode_exactly_when_that_is_better(to_end, to_go_on, better):
    """One state, in which half of the data end the episode: at -1 instead of -0.5 a step for ever, which are worth -5; and the reverse."""
    one = One("alberdice", "discrete", agents=1, gamma=0.9, grad_penalty=0.0)
    ends = (torch.arange(one.b.mask.numel()).view(one.b.mask.shape) % 2).to(one.b.mask.dtype)
    b = one.b._replace(mask=torch.ones_like(ends), terminated=ends, rewards=torch.where(ends > 0, to_end, to_go_on))
    zero, alpha = torch.zeros_like(ends), 0.1

    def loss(c):
        return one.a.nu_loss(with_constant_nu(one, c), None, b, one.d.agent, zero, zero, b.mask, alpha, one.d.u["pair"]).item()

    nu = minimize_scalar(loss, bounds=(-10, 10), method="bounded").x
    advantage = one.a.advantage(with_constant_nu(one, nu), b, one.d.agent, zero, alpha)
    of_ending, of_going_on = advantage[ends > 0].mean().item(), advantage[ends == 0].mean().item()
    assert (of_ending > of_going_on + alpha) == (better == "end")
    assert (of_going_on > of_ending + alpha) == (better == "go on")


def test_alberdice_anneals_geometrically():
    """e of the last update is that of alpha_end: what it logs as the value of L(pi) is linear in alpha."""
    one = One("alberdice", "discrete", agents=1, alpha=4.0, alpha_end=0.25, num_updates=10)
    losses = [one.a.update(one.s._replace(step=torch.tensor(step)), one.b, one.d)[1]["loss_policy"] for step in (0, 5, 10)]
    assert (losses[0] - losses[2]).item() == pytest.approx((losses[1] - losses[2]).item() * (4 - 0.25) / (1 - 0.25), abs=1e-10)


def test_kl_to_the_data_is_the_enumerated_one():
    """K_i + the own KL is KL(pi || p_D) along the chain, for two agents."""
    one = One("alberdice", "discrete", agents=2)
    for i in range(2):
        k, _ = one.a.teammates(one.on, one.b, torch.tensor(i), one.d.u["own"])
        j, space = 1 - i, one.a.space
        pi, chain = one.on.pi(one.b.now.obs)[:, :, j], one.a.chain(one.on, one.b, torch.tensor(i))[:, :, j]
        p, m = (space.logp(h, one.b.now.avail[:, :, j]).exp() for h in (pi, chain))
        kl = torch.where(p > 0, p * (p.clamp(min=1e-300).log() - (m + 1e-10).log()), 0.0).sum(-1)
        close(k, kl, 1e-9)


# --- TD(lambda), targets


@pytest.mark.parametrize("ends", ["terminated", "cut"])
def test_lambda_returns_by_hand(ends):
    """Three steps of rewards 1, 2, 3 and values of next rows 10, 20, 30; gamma = 1/2."""
    done = torch.tensor([[0.0, 0, ends == "terminated"]])
    x = torch.zeros(1, 4, 1)
    b = Batch(x, x, x, x, torch.tensor([[1.0, 2, 3]]), done, torch.ones(1, 3))
    v, last = torch.tensor([[10.0, 20, 30]]), 0.0 if ends == "terminated" else 15.0
    close(td_lambda_returns(v, b, 0.5, 0.0), torch.tensor([[6.0, 12, 3 + last]]))
    close(td_lambda_returns(v, b, 0.5, 1.0), torch.tensor([[1 + 1 + 0.75 + last / 4, 2 + 1.5 + last / 2, 3 + last]]))
    half = 2 + 0.5 * (10 + (3 + last) / 2)
    close(td_lambda_returns(v, b, 0.5, 0.5), torch.tensor([[1 + 0.5 * (5 + half / 2), half, 3 + last]]))
    short = b._replace(mask=torch.tensor([[1.0, 1, 0]]), rewards=torch.tensor([[1.0, 2, 1e6]]))  # data end after two steps
    close(td_lambda_returns(v, short, 0.5, 1.0)[:, :2], torch.tensor([[1 + 0.5 * 12, 12.0]]))


def test_targets_are_copied_every_period():
    one = One("iql", "discrete", target_update_interval=3)
    s = one.s._replace(target=tree_map(lambda x: x + 1, one.s.target))
    for step, copied in ((0, False), (1, False), (2, True), (3, False), (5, True)):
        after = one.a.update_targets(s._replace(step=torch.tensor(step)), "q1")
        assert torch.equal(after.target["q1"], s.params["q1"] if copied else s.target["q1"])
        assert torch.equal(after.target["q2"], s.target["q2"])


@kinds
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("name", ["bc", "inspo", "alberdice"])
def test_agents_act_by_the_mean_of_the_last_policies(kind, name, share):
    """From the clones of the data on, if the method begins with them; nothing else changes. AlberDICE's updates have two turns."""
    lab, newest = (Lab(name, kind, share_params=share, num_updates=6, ema_rate=rate) for rate in (0.25, 1.0))
    s, plain = lab.init(), newest.init()
    ours = s.params["pi"]
    for call in range(lab.calls):
        batch, draw = lab.sampler.draw(call)
        stage, _ = lab.algorithm.stage_at(call)
        s, _ = lab.algorithm.pack(1, stage)(s, batch, draw)
        plain, _ = newest.algorithm.pack(1, newest.algorithm.stage_at(call)[0])(plain, batch, draw)
        rate = 1.0 if stage.name == "cloning" else max(0.25 / lab.algorithm.turns, 1 / (1 + call))
        ours = ours + rate * (s.params["pi"] - ours)
        close(lab.algorithm.acting_params(s)["pi"], ours, 1e-12)
        assert torch.equal(newest.algorithm.acting_params(plain)["pi"], plain.params["pi"])
    close(s.params, plain.params, 0)


def test_steps_in_time_are_steps_on_single_rows():
    """The critic after a walk through the window is that of one optimiser step per time step, skipping times without data."""
    one = One("icq", "discrete", per_timestep_critic=True)
    y = one.a.target(one.tg, one.b)
    walked, _ = one.a.gradient_step_per_timestep(
        one.s, "q mix", one.a.critic_loss, one.b._replace(mask=one.b.mask * torch.tensor([1.0, 0, 1])), y
    )
    s = one.s
    for t in (0, 2):
        mask = one.b.mask * (torch.arange(3) == t)
        s, _ = one.a.gradient_step(s, "q mix", one.a.critic_loss, one.b._replace(mask=mask), y)
    close(walked, s, 1e-12)


@kinds
def test_icqs_mixers_are_monotone(kind):
    for mixer in ("linear", "elu"):
        one = One("icq", kind, mixer=mixer)
        q = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        total, _ = one.on.mix(q, torch.randn(50, 3, generator=torch.Generator().manual_seed(1)))
        (slope,) = torch.autograd.grad(total.sum(), q)
        assert slope.min() >= 0
        assert F.relu(slope).std(0).min() > 0
