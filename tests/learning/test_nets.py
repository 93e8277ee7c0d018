"""The networks: stacked is separate, one agent's row is its slice of the full pass, the memory is a GRU's, mixers are monotone."""

import pytest
import torch
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from inspo_benchmark.algorithms.cfcql import QMixer
from inspo_benchmark.algorithms.omiga import LinearMixer
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec
from inspo_benchmark.learning.nets import AgentNet, Critic, GRUCell, Linear, flatten, select, unflatten
from support.toy import SPACES

pytestmark = pytest.mark.usefixtures("double")
N, INPUTS, HIDDEN, OUT, B, L = 3, 4, 6, 5, 2, 4
memories = pytest.mark.parametrize("memory", ["mlp", "gru"])
shares = pytest.mark.parametrize("share", [False, True], ids=["own", "shared"])
spaces = pytest.mark.parametrize("space", list(SPACES.values()), ids=list(SPACES))
indices = pytest.mark.parametrize("index", [int, torch.tensor], ids=["int", "tensor"])


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def agent_net(share=False, memory="mlp", agents=N) -> AgentNet:
    return AgentNet(agents, INPUTS, HIDDEN, OUT, share, memory)


def row(net, i):
    """The parameters that a network is given when it is called for agent i alone."""
    return unflatten(net, flatten(net), i)


@memories
def test_stacked_networks_are_separate_networks(memory):
    net, x = agent_net(memory=memory), torch.randn(B, L, N, INPUTS)
    together = net(x)
    for i in range(N):
        single = agent_net(memory=memory, agents=1)
        single.load_state_dict({name: p[None] for name, p in row(net, i).items()})
        torch.testing.assert_close(single(x[:, :, i : i + 1])[:, :, 0], together[:, :, i], rtol=0, atol=1e-12)


def test_a_feed_forward_network_is_torchs():
    net, x = agent_net(), torch.randn(B, L, N, INPUTS)
    for i in range(N):
        w = row(net, i)
        reference = torch.nn.Sequential(
            torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, OUT)
        )
        for k, layer in enumerate(("first", "second", "last")):
            reference[2 * k].load_state_dict({"weight": w[f"{layer}.weight"].T, "bias": w[f"{layer}.bias"]})
        torch.testing.assert_close(net(x)[:, :, i], reference(x[:, :, i]), rtol=0, atol=1e-12)


@memories
@shares
@indices
def test_one_agents_pass_is_its_row_of_the_full_pass(memory, share, index):
    net, x = agent_net(share, memory), torch.randn(B, L, N, INPUTS)
    for i in range(N):
        alone = functional_call(net, row(net, index(i)), (x[:, :, i],), dict(agent=index(i)))
        torch.testing.assert_close(alone, net(x)[:, :, i], rtol=0, atol=1e-12)


@shares
def test_the_agent_may_differ_between_runs_of_a_pack(share):
    net, x, who = agent_net(share, "gru"), torch.randn(4, B, L, INPUTS), torch.tensor([2, 0, 1, 2])
    packed = vmap(lambda x, i: functional_call(net, row(net, i), (x,), dict(agent=i)))(x, who)
    for k, i in enumerate(who.tolist()):
        torch.testing.assert_close(packed[k], functional_call(net, row(net, i), (x[k],), dict(agent=i)), rtol=0, atol=1e-12)


def test_the_cell_is_torchs():
    """torch keeps weights transposed; the gates are in its order: reset, update, new."""
    ours, theirs = GRUCell(HIDDEN), torch.nn.GRUCell(HIDDEN, HIDDEN)
    theirs.load_state_dict(dict(weight_ih=ours.x.weight.T, weight_hh=ours.h.weight.T, bias_ih=ours.x.bias, bias_hh=ours.h.bias))
    x, h = torch.randn(7, HIDDEN), torch.randn(7, HIDDEN)
    torch.testing.assert_close(ours(x, h), theirs(x, h), rtol=0, atol=1e-12)


@memories
@shares
def test_stepping_with_a_memory_is_the_unrolled_window(memory, share):
    net, x = agent_net(share, memory), torch.randn(B, L, N, INPUTS)
    window, h = net(x), torch.zeros(B, N, HIDDEN if memory == "gru" else 0)
    for t in range(L):
        out, h = net(x[:, t], memory=h)
        torch.testing.assert_close(out, window[:, t], rtol=0, atol=1e-12)
    assert h.shape == (B, N, HIDDEN if memory == "gru" else 0)


@memories
def test_memory_reaches_back_and_never_ahead(memory):
    net, x = agent_net(memory=memory), torch.randn(B, L, N, INPUTS)
    y = x.clone()
    y[:, 1] += 1
    changed = (net(x) != net(y)).any(-1).all(-1).all(0)
    assert changed.tolist() == ([False, True, True, True] if memory == "gru" else [False, True, False, False])


@memories
@shares
def test_agents_differ_though_they_see_the_same(memory, share):
    out = agent_net(share, memory)(torch.randn(B, L, 1, INPUTS).expand(B, L, N, INPUTS))
    for i in range(N):
        for j in range(i):
            assert (out[:, :, i] - out[:, :, j]).abs().max() > 1e-3


def test_a_shared_network_with_an_id_is_one_that_reads_a_one_hot_code():
    net, x = agent_net(share=True), torch.randn(B, L, N, INPUTS)
    told = Linear(INPUTS + N, HIDDEN)
    told.load_state_dict({"weight": torch.cat([net.first.weight, net.who]), "bias": net.first.bias})
    plain = AgentNet(1, INPUTS, HIDDEN, OUT, share=True)
    plain.load_state_dict({**net.state_dict(), "who": torch.zeros(1, HIDDEN)})
    plain.first = told
    torch.testing.assert_close(plain(torch.cat([x, torch.eye(N).expand(B, L, N, N)], -1)), net(x), rtol=0, atol=1e-12)


@spaces
@shares
@indices
@memories
def test_a_critic_of_one_agent_is_its_row_of_all(space, share, index, memory):
    critic, x = Critic(space, N, INPUTS, HIDDEN, share, memory), torch.randn(B, L, N, INPUTS)
    a = torch.rand(B, L, N, 6, *space.noise_shape) if space.kind == "continuous" else torch.randint(space.n, (B, L, N, 6))
    q = critic(x, a)
    assert q.shape == (B, L, N, 6)
    for i in range(N):
        alone = functional_call(critic, row(critic, index(i)), (x[:, :, i], a[:, :, i]), dict(agent=index(i)))
        torch.testing.assert_close(alone, q[:, :, i], rtol=0, atol=1e-12)
    one_by_one = torch.cat([critic(x, a[:, :, :, k : k + 1]) for k in range(6)], -1)
    torch.testing.assert_close(one_by_one, q, rtol=0, atol=1e-12)  # a candidate's value does not depend on the others
    assert q.std(-1).min() > 0
    later = critic(torch.cat([x[:, :1] + 1, x[:, 1:]], 1), a)[:, 1:]
    assert torch.equal(later, q[:, 1:]) == (memory == "mlp")


MIXERS = {"linear": LinearMixer, "qmix": QMixer}
SPEC = Spec(N, INPUTS, 7, Discrete(2), 9)


def total(mixer, q, state):
    if isinstance(mixer, QMixer):
        return mixer(q, state)
    w, b = mixer(state)
    return (w * q).sum(-1) + b


@pytest.mark.parametrize("kind", list(MIXERS))
def test_mixers_are_monotone_in_every_value(kind):
    mixer = MIXERS[kind](SPEC, HIDDEN)
    with torch.no_grad():
        for p in mixer.parameters():
            p.copy_(3 * torch.randn_like(p))  # also what training may make of them
    q, state = torch.randn(500, N, requires_grad=True), torch.randn(500, 7)
    (grad,) = torch.autograd.grad(total(mixer, q, state).sum(), q)
    assert grad.min() >= 0
    assert (grad > 0).any(0).all()
    assert grad.std(0).min() > 0  # the weights depend on the state


def test_the_linear_mixer_by_hand():
    mixer = LinearMixer(SPEC, HIDDEN)
    q, state = torch.randn(5, N), torch.randn(5, 7)
    out = torch.relu(state @ mixer.body.weight + mixer.body.bias) @ mixer.head.weight + mixer.head.bias
    torch.testing.assert_close(total(mixer, q, state), (out[:, :N].abs() * q).sum(1) + out[:, N], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", list(MIXERS))
def test_mixers_can_be_packed(kind):
    mixers = [MIXERS[kind](SPEC, HIDDEN) for _ in range(3)]
    flat = torch.stack([flatten(m) for m in mixers])
    q, state = torch.randn(3, B, L, N), torch.randn(3, B, L, 7)
    inputs = (q, state) if kind == "qmix" else (state,)
    packed = vmap(lambda p, *x: functional_call(mixers[0], unflatten(mixers[0], p), x))(flat, *inputs)
    for k, mixer in enumerate(mixers):
        torch.testing.assert_close(tree_map(lambda x, k=k: x[k], packed), mixer(*(x[k] for x in inputs)), rtol=0, atol=1e-12)


NETS = {
    "own": lambda: agent_net(),
    "own-gru": lambda: agent_net(memory="gru"),
    "shared-gru": lambda: agent_net(True, "gru"),
    "one-agent": lambda: agent_net(agents=1),
    "critic": lambda: Critic(Box(2), N, INPUTS, HIDDEN, False),
    "mixer": lambda: QMixer(SPEC, HIDDEN),
}


@pytest.mark.parametrize("name", list(NETS))
def test_flattened_parameters_come_back(name):
    net = NETS[name]()
    flat, named = flatten(net), dict(net.named_parameters())
    assert flat.shape == (N if name in ("own", "own-gru", "critic") else 1, sum(p.numel() for p in named.values()) // len(flat))
    back = unflatten(net, flat)
    assert list(back) == list(named)
    for key, p in named.items():
        assert torch.equal(back[key], p)
        if len(flat) > 1:  # a row is an agent
            assert torch.equal(row(net, 1)[key], p[1])


def test_at_selects():
    x = torch.arange(24.0).reshape(2, 3, 4)
    for dim in range(3):
        for i in range(x.shape[dim]):
            assert torch.equal(select(x, dim, i), x.select(dim, i))
            assert torch.equal(select(x, dim, torch.tensor(i)), x.select(dim, i))


def test_initial_weights_fill_their_range():
    w = Linear(25, 400, 3)
    for p in (w.weight, w.bias):
        assert p.abs().max() <= 0.2
        assert p.abs().max() > 0.19
        assert abs(p.mean()) < 0.02
