"""Flow BC and MAC-Flow: flows whose end is known, what students of a joint teacher can hold, and values on XOR."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.utils._pytree import tree_map

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.types import Batch
from support.toy import SPACES, Lab, close, same
from support.xor import sampled_actions, trained, trained_value

ALGORITHMS.discover()
pytestmark = pytest.mark.usefixtures("double")
kinds = pytest.mark.parametrize("kind", list(SPACES))
memories = pytest.mark.parametrize("memory", ["mlp", "gru"])
HUGE = 1e4


# --- the teacher, with the field that (1) has at its minimum


def carried(field, z: torch.Tensor, steps: int) -> torch.Tensor:
    """z [R, D] carried by a field v(x, t) through the method's own Euler steps."""
    rows, width = z.shape
    lab = Lab("flow_bc", "continuous", agents=1, flow_steps=steps, teacher="own")
    b = Batch(*(torch.zeros(rows, 2, 1, 1) for _ in range(4)), *(torch.zeros(rows, 1) for _ in range(3)))
    f = SimpleNamespace(flow=lambda x: field(x[..., -width - 1 : -1], x[..., -1:]))
    return lab.algorithm.flow(f, b, z[:, None, None])[:, 0, 0]


def normals(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_single_action_is_reached_exactly(steps):
    goal, z = torch.tensor([0.3, -0.8]), normals(50, 2)
    close(carried(lambda x, t: (goal - x) / (1 - t), z, steps), goal.expand(50, 2), 1e-12)


EULER = {  # standard deviation of the data -> of what 1, 5, 10, 20 and 100 Euler steps make of normal noise
    0.1: (0, 0.0360, 0.0617, 0.0796, 0.0956),
    0.25: (0, 0.1568, 0.2006, 0.2242, 0.2446),
    0.5: (0, 0.3692, 0.4308, 0.4643, 0.4927),
    1: (0, 0.7705, 0.8790, 0.9377, 0.9872),
    2: (0, 1.4769, 1.7231, 1.8570, 1.9706),
}


@pytest.mark.parametrize("std", EULER)
def test_the_width_of_gaussian_data(std):
    mean, z = 0.4, normals(20, 1)

    def field(x, t):
        return mean + (x - t * mean) * (t * std**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * std**2)

    for steps, factor in zip((1, 5, 10, 20, 100), EULER[std]):
        close(carried(field, z, steps), mean + factor * z, 3e-4)


def of_points(points: torch.Tensor, p: torch.Tensor):
    """The field of data on points [K, D] with shares p [K]."""

    def field(x, t):
        square = ((x[..., None, :] - t[..., None] * points) ** 2).sum(-1)
        w = (p.log() - square / (2 * (1 - t) ** 2)).softmax(-1)
        return (w @ points - x) / (1 - t)

    return field


def test_two_actions_are_told_apart_by_the_sign_of_the_noise():
    z = normals(500, 1)
    z = z[z.abs()[:, 0] > 0.05]
    close(carried(of_points(torch.tensor([[-1.0], [1.0]]), torch.tensor([0.5, 0.5])), z, 10), z.sign(), 1e-3)


def test_frequencies_of_categorical_actions():
    p, z = torch.tensor([0.5, 0.3, 0.15, 0.05]), normals(40_000, 4)
    known = {1: (1, 0, 0, 0), 2: (0.640, 0.275, 0.078, 0.007), 5: (0.525, 0.297, 0.136, 0.042), 10: (0.513, 0.297, 0.144, 0.046), 100: p}
    for steps, wanted in known.items():
        found = carried(of_points(torch.eye(4), p), z, steps).argmax(-1).bincount(minlength=4) / len(z)
        np.testing.assert_allclose(found, wanted, atol=0.01)
    assert carried(of_points(torch.eye(4), p), torch.zeros(1, 4), 10).argmax().item() == 0


def test_a_joint_flow_of_ab_and_ba_ends_in_one_of_them():
    """In AB if, and only if, the noise of A over B is larger for agent 1; a policy that sees its own noise alone can know this with the
    probability Phi."""
    z = normals(20_000, 4)
    first, second = z[:, 0] - z[:, 1], z[:, 2] - z[:, 3]
    end = carried(of_points(torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]), torch.tensor([0.5, 0.5])), z, 10)
    action_1, action_2 = end[:, :2].argmax(-1), end[:, 2:].argmax(-1)
    assert torch.equal(action_1, 1 - action_2)
    assert torch.equal(action_1 == 0, first > second)
    for low in (-2.0, -1.0, 0.0, 1.0):
        near = (first > low) & (first < low + 0.2)
        assert (action_1[near] == 0).double().mean().item() == pytest.approx(norm.cdf((low + 0.1) / 2**0.5), abs=0.05)


def test_no_policy_can_imitate_a_joint_flow_of_opposite_signs():
    """Data are (1, -1) and (-1, 1). The best policy on its own noise is 2 Phi(z) - 1; it stays at two thirds of the variance."""
    z = normals(40_000, 2)
    goal = carried(of_points(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.tensor([0.5, 0.5])), z, 10).sign()
    assert torch.equal(goal[:, 0], (z[:, 0] - z[:, 1]).sign())
    lab = Lab("flow_bc", "continuous")

    def loss(h):
        return lab.algorithm.distillation(h[..., None], goal[..., None], None).mean(0)

    best = 2 * torch.special.ndtr(z) - 1
    torch.testing.assert_close(loss(best), torch.full((2,), 2 / 3), rtol=0, atol=0.02)
    for other in (0.8 * best, 1.2 * best, torch.zeros_like(best), best.sign()):
        assert (loss(other) > loss(best)).all()


# --- the policies


@kinds
@memories
def test_noise_and_observations_of_others_play_no_part(kind, memory):
    lab = Lab("macflow", kind, network=memory)
    f = lab.algorithm.online(tree_map(lambda x: x[0], lab.init()))
    obs, z, others = normals(20, 3, 4), normals(20, 3, lab.algorithm.acting_noise_shape[0]), (torch.arange(3) != 1)[:, None]
    h = lab.algorithm.init_hidden(20)
    x, moved = f.pi(torch.cat([obs, z], -1), memory=h)[0], f.pi(torch.cat([obs + others, z + others], -1), memory=h)[0]
    close(moved[:, 1], x[:, 1])
    assert ((moved - x).abs().amax((0, 2)) > 0).tolist() == [True, False, True]
    assert not torch.equal(f.pi(torch.cat([obs, z + 1], -1), memory=h)[0], x)


@memories
def test_a_recurrent_policy_steps_as_it_unrolls(memory):
    lab = Lab("macflow", "continuous", network=memory)
    f, x, h = lab.algorithm.online(tree_map(lambda x: x[0], lab.init())), normals(5, 6, 3, 4 + 2), lab.algorithm.init_hidden(5)
    steps = []
    for t in range(6):
        out, h = f.pi(x[:, t], memory=h)
        steps.append(out)
    close(torch.stack(steps, 1), f.pi(x))


def improvement(lab: Lab, h: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """The gradient of (7) by the outputs of the policies, with critics that are `scale` times the initial ones."""
    f, (b, _) = lab.algorithm.online(tree_map(lambda x: x[0], lab.init())), tree_map(lambda x: x[0], lab.sampler.draw(0))
    f = SimpleNamespace(q1=lambda *x: scale * f_.q1(*x), q2=lambda *x: scale * f_.q2(*x)) if (f_ := f) else None
    h = h.clone().requires_grad_()
    loss = lab.algorithm.improvement_loss(f, b, h)
    return torch.autograd.grad(loss, h)[0] if loss.requires_grad else torch.zeros_like(h)


@kinds
def test_the_scale_of_rewards_plays_no_part_in_the_improvement(kind):
    lab = Lab("macflow", kind)
    h = 0.5 * normals(8, 3, 3, lab.algorithm.acting_noise_shape[0])
    gradient = improvement(lab, h)
    assert gradient.abs().max() > 0
    close(improvement(lab, h, 100.0), gradient)


def test_no_gradient_where_actions_are_clipped():
    lab = Lab("macflow", "continuous")
    h = 2 * normals(8, 3, 3, 2)
    gradient = improvement(lab, h)
    assert not gradient[h.abs() > 1].any()
    assert gradient[h.abs() < 1].any()


@memories
def test_the_published_discrete_code_is_flow_bc(memory):
    """Its gradient of (7) is zero: the policies are those of flow BC, bit for bit."""
    ours, cloning = (
        Lab(algo, "discrete", network=memory, lr=1e-3, **own)
        for algo, own in (("macflow", dict(improvement="argmax", alpha=1.0)), ("flow_bc", {}))
    )
    s, other = ours.init(), cloning.init()
    s = s._replace(params={**s.params, **other.params})
    draws = ours.draws()
    (s, _), (other, _) = ours.train(s, draws), cloning.train(other, draws)
    for name in ("pi", "flow"):
        assert same(s.params[name], other.params[name])
    assert not improvement(ours, normals(8, 3, 3, 3)).any()


@kinds
def test_a_large_alpha_is_flow_bc(kind):
    """The loss of the policies, divided by alpha."""
    lab, cloning = Lab("macflow", kind, alpha=1e9), Lab("flow_bc", kind)
    s, (b, d) = tree_map(lambda x: x[0], (lab.init(), lab.sampler.draw(0)))
    f, z = lab.algorithm.online(s), torch.special.ndtri(d.u["policy"])
    goal = lab.algorithm.flow(f, b, z)
    close(lab.algorithm.policy_loss(f, None, b, z, goal, f) / 1e9, cloning.algorithm.policy_loss(f, None, b, z, goal), 1e-8)


def test_teachers_of_single_agents_are_joint_teachers_of_one():
    """With the same network and no state, a flow of each agent's own is the joint flow of a team of one."""
    own, joint = (Lab("flow_bc", "continuous", agents=n, teacher=t) for n, t in ((3, "own"), (1, "joint")))
    (b, d) = tree_map(lambda x: x[0], own.sampler.draw(0))
    f = SimpleNamespace(flow=lambda x: torch.sin(x[..., -3 - 4 : -3]).sum(-1, keepdim=True) + x[..., -3:-1] * x[..., -1:])
    z = torch.special.ndtri(d.u["policy"])
    every = own.algorithm.flow(f, b, z)
    for i in range(3):
        alone = b._replace(obs=b.obs[:, :, i : i + 1])
        close(joint.algorithm.flow(f, alone, z[:, :, i : i + 1]), every[:, :, i : i + 1])


def test_one_agent_is_flow_q_learning():
    """The losses of FQL (Park et al. 2025) with its normalized Q, term by term. FQL's teacher sees what the policy sees."""
    lab = Lab("macflow", "continuous", agents=1, alpha=1.5, flow_steps=4)
    a, cfg = lab.algorithm, lab.cfg
    s, (b, d) = tree_map(lambda x: x[0], (lab.init(), lab.sampler.draw(0)))
    s = s._replace(target={name: 1.5 * p for name, p in s.target.items()})
    on, tg, u, data = a.online(s), a.targets(s), {name: torch.special.ndtri(x) for name, x in d.u.items()}, b.mask > 0
    flow, t = partial(a.velocity, on, b), d.u["time"]

    def q(f, obs, actions):  # both critics at the rows of data, [2, rows]
        return torch.stack([critic(obs, actions.unsqueeze(3))[..., 0, 0][data] for critic in (f.q1, f.q2)])

    def policy(obs, z):
        return on.pi(torch.cat([obs, z], -1))

    next_q = q(tg, b.next.obs, policy(b.next.obs, u["next"]).clamp(-1, 1)).mean(0)
    y = b.rewards[data] + cfg.gamma * (1 - b.terminated[data]) * next_q
    critic_loss = ((q(on, b.now.obs, b.now.actions) - y) ** 2).mean()
    x_1, x_0 = b.now.actions, u["flow"]
    flow_loss = ((flow((1 - t) * x_0 + t * x_1, t) - (x_1 - x_0)) ** 2)[data].mean()
    goal = u["policy"]
    for m in range(cfg.flow_steps):
        goal = goal + flow(goal, torch.full_like(t, m / cfg.flow_steps)) / cfg.flow_steps
    h = policy(b.now.obs, u["policy"])
    q_of_policy = q(on, b.now.obs, h.clamp(-1, 1)).mean(0)
    policy_loss = 1.5 * ((h - goal.clamp(-1, 1)) ** 2)[data].mean() - q_of_policy.mean() / q_of_policy.abs().mean()

    close(a.critic_loss(on, tg, b, a.target(on, tg, b, d.u)), critic_loss)
    close(a.flow_loss(on, tg, b, d.u), flow_loss)
    close(a.policy_loss(on, tg, b, u["policy"], a.flow(on, b, u["policy"]), on), policy_loss)


# --- XOR


def test_a_joint_teacher_knows_xor_and_its_students_do_not():
    algorithm, s = trained("flow_bc", "ab_ba", seeds=1, num_updates=1500, lr=3e-3)
    z = normals(2000, 1, 2, 2)
    f = algorithm.online(tree_map(lambda x: x[0], s))
    b = Batch(
        torch.ones(2000, 2, 2, 4), torch.ones(2000, 2, 4), *(torch.zeros(2000, 2, 2, 1) for _ in range(2)), *3 * [torch.zeros(2000, 1)]
    )
    with torch.no_grad():
        joint = algorithm.flow(f, b, z)[:, 0].argmax(-1)
    assert (joint[:, 0] != joint[:, 1]).double().mean() > 0.95
    students = sampled_actions(algorithm, s)[0]
    assert (students[:, 0] != students[:, 1]).mean() == pytest.approx(0.5, abs=0.05)
    assert students.mean(0) == pytest.approx([0.5, 0.5], abs=0.08)


# With an additive Q: all joint actions of {AB, BA} look alike; B looks better than A to both if AA is in the data; A if all are.
@pytest.mark.parametrize(
    ("data", "alpha", "value"), [("aa_ab_ba", HUGE, 2 / 9), ("aa_ab_ba", 0.01, -2), ("all", 0.01, 0), ("all", HUGE, 0)]
)
def test_trained_values_on_xor(data, alpha, value):
    small = dict(hidden_dim=16, flow_dim=16, batch_size=16, lr=3e-3, num_updates=400)
    assert trained_value("macflow", data, alpha=alpha, **small) == pytest.approx(value, abs=0.12)
