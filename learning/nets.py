"""Networks of N agents: one per agent with stacked weights, or one shared network with agent ids; feed-forward or recurrent.

Every agent network is linear - ReLU - (linear - ReLU, or a GRU cell) - linear, initialized as U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspo_benchmark.core.spaces import Box, Discrete

NetworkKind = Literal["mlp", "gru"]


def flatten(net: nn.Module) -> Tensor:
    """All parameters of a network as one matrix [rows, P]: a row per agent where weights are stacked, else one row.

    With one tensor per network an update is a short list of large operations, and the weights of agent i are a row.
    """
    return torch.cat([p.detach().reshape(stack_of(net) or 1, -1) for p in net.parameters()], 1)


def stack_of(net: nn.Module) -> int:
    """The number of agents whose weights are stacked in a network; 0 if they share its weights."""
    return max(getattr(m, "stack", 0) for m in net.modules())  # among them is `net` itself


def unflatten(net: nn.Module, flat: Tensor, agent: int | Tensor | None = None) -> dict[str, Tensor]:
    """The parameters in a matrix [rows, P] made by `flatten`, by name and in their shapes. With `agent`: this agent's row alone, if
    weights are stacked, in the shapes of a network of one agent; a matrix of one row is this row."""
    named, rows = dict(net.named_parameters()), stack_of(net)
    one = agent is not None and rows > 0
    row = select(flat, 0, agent)[None] if agent is not None and len(flat) > 1 else flat
    parts = row.split([p.numel() // (rows or 1) for p in named.values()], 1)
    return {name: part.reshape(p.shape[1:] if one else p.shape) for (name, p), part in zip(named.items(), parts)}


def select(x: Tensor, dim: int, i: int | Tensor) -> Tensor:
    """x[..., i, ...] at `dim`; i may differ between the runs of a pack."""
    if isinstance(i, int):
        return x.select(dim, i)
    shape = list(x.shape)
    shape[dim] = 1
    return x.gather(dim, i.expand(shape)).squeeze(dim)


def replace(x: Tensor, dim: int, i: int | Tensor, new: Tensor) -> Tensor:
    """x with `new` in place of what `select` cuts out."""
    if isinstance(i, int):
        return x.select_scatter(new, dim, i)
    new = new.unsqueeze(dim)
    return x.scatter(dim, i.expand(new.shape), new)


def matmul(x: Tensor, w: Tensor) -> Tensor:
    """x @ w for x [..., inputs] and w [inputs, outputs], as one matrix product; or for every agent, x [..., N, inputs] and
    w [N, inputs, outputs]."""
    if w.ndim == 3:
        return torch.einsum("...ni,nio->...no", x, w)
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], -1)


class Linear(nn.Module):
    """x W + b, for one network or for `stack` of them at once: [..., stack, inputs] -> [..., stack, outputs]."""

    def __init__(self, inputs: int, outputs: int, stack: int = 0):
        super().__init__()
        self.stack = stack
        bound = max(inputs, 1) ** -0.5
        lead = (stack,) if stack else ()
        self.weight = nn.Parameter(torch.empty(*lead, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(*lead, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return matmul(x, self.weight) + self.bias


class GRUCell(nn.Module):
    """h' = (1 - z) n + z h,  r, z = sigmoid(x W + h U),  n = tanh(x W_n + r (h U_n))  (torch.nn.GRU has no rule for vmap)."""

    def __init__(self, width: int, stack: int = 0):
        super().__init__()
        self.x = Linear(width, 3 * width, stack)
        self.h = Linear(width, 3 * width, stack)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        xr, xz, xn = self.x(x).chunk(3, -1)
        hr, hz, hn = self.h(h).chunk(3, -1)
        r = torch.sigmoid(xr + hr)
        z = torch.sigmoid(xz + hz)
        return (1 - z) * torch.tanh(xn + r * hn) + z * h


class AgentNet(nn.Module):
    """N networks of one shape. `share`: one set of weights, and a one-hot agent id as a further input, instead of N sets.

    forward(x): x [B, L, N, inputs] -> [B, L, N, outputs]. A recurrent network runs over L and starts with zeros.
    forward(x, agent=i): one agent alone, x [B, L, inputs]. Stacked weights have to be this agent's row, see `unflatten`.
    forward(x, memory=h): one step, x [..., N, inputs], h [..., N, H] -> outputs, next h.
    forward(x, a=a): K candidates a [..., K, N, D], which are the last D of the inputs and share the others, x [..., N, inputs - D].
    """

    def __init__(self, agents: int, inputs: int, hidden: int, outputs: int, share: bool, network: NetworkKind = "mlp"):
        super().__init__()
        stack = 0 if share else agents
        self.recurrent = network == "gru"
        self.first = Linear(inputs, hidden, stack)
        self.who = nn.Parameter(torch.empty(agents, hidden).uniform_(-1, 1) * max(inputs, 1) ** -0.5) if share else None
        self.second = GRUCell(hidden, stack) if self.recurrent else Linear(hidden, hidden, stack)
        self.last = Linear(hidden, outputs, stack)

    def forward(self, x: Tensor, agent: int | Tensor | None = None, memory: Tensor | None = None, a: Tensor | None = None):
        w: Tensor = self.first.weight
        bias: Tensor = self.first.bias
        if self.who is not None:  # these are the rows of the first layer that a one-hot id selects
            bias = bias + (self.who if agent is None else select(self.who, 0, agent))
        if a is None:
            x = matmul(x, w) + bias
        else:  # what the candidates share is multiplied once
            w, w_a = w.split((x.shape[-1], a.shape[-1]), -2)
            x = (matmul(x, w) + bias).unsqueeze(-3 if agent is None else -2) + matmul(a, w_a)
        x = F.relu(x)
        if not self.recurrent:
            out = self.last(F.relu(self.second(x)))
            return out if memory is None else (out, memory)
        if memory is not None:
            memory = self.second(x, memory)
            return self.last(memory), memory
        h = torch.zeros_like(x[:, 0])
        rows = []
        for t in range(x.shape[1]):
            h = self.second(x[:, t], h)
            rows.append(h)
        return self.last(torch.stack(rows, 1))


class Critic(nn.Module):
    """Q_i(x, a_i) at K candidate actions: x [..., N, inputs], a [..., N, K] or [..., N, K, D] -> [..., N, K].

    With `agent`, for one agent: x [..., inputs], a [..., K] or [..., K, D] -> [..., K]. Discrete actions are outputs, so that all
    of them cost one pass; continuous ones are inputs. A recurrent critic, x [B, L, N, inputs], remembers x and not the candidates.
    """

    def __init__(self, space: Discrete | Box, agents: int, inputs: int, hidden: int, share: bool, network: NetworkKind = "mlp"):
        super().__init__()
        self.discrete = isinstance(space, Discrete)
        self.past = AgentNet(agents, inputs, hidden, hidden, share, network) if network == "gru" and not self.discrete else None
        inputs = inputs if self.past is None else hidden
        action_inputs, outputs = (0, space.n) if isinstance(space, Discrete) else (space.d, 1)
        self.net = AgentNet(agents, inputs + action_inputs, hidden, outputs, share, network if self.discrete else "mlp")

    def forward(self, x: Tensor, a: Tensor, agent: int | Tensor | None = None) -> Tensor:
        if self.discrete:
            return self.net(x, agent).gather(-1, a)
        if self.past is not None:
            x = F.relu(self.past(x, agent))
        if agent is not None:
            return self.net(x, agent, a=a)[..., 0]
        return self.net(x, a=a.transpose(-2, -3))[..., 0].transpose(-1, -2)
