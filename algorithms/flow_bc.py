"""Flow BC: a flow clones joint actions, and one-step policies imitate the flow. MAC-Flow without its critic (Lee et al., ICLR 2026).

The teacher is a velocity field v on joint actions a, given the state and all observations. It turns normal noise z into actions in K Euler
steps, and keeps what agents' actions in the data have in common. Agent i's policy mu_i makes an action of its own noise z_i in one step:

    L(v)  = E_D | v(x_t, t) - (a - z) |^2,    x_t = (1 - t) z + t a,    z normal, t uniform                             (1)
    T(z)  = x_K,    x_0 = z,    x_{m+1} = x_m + v(x_m, m/K) / K                                                         (2)
    L(mu) = E_D | mu_i(o_i, z_i) - T_i(z) |^2                                                                           (3)

Squares are means over agents and dimensions. Continuous actions are clipped to [-1, 1] at the end of (2), and when mu_i acts. Discrete
actions are one-hot in (1), (2) ends with the available action whose entry is largest, mu_i gives logits, and (3) is their cross-entropy
with that action.

Executed policies are independent of each other, as every agent has noise of its own: they cannot hold the correlations of the teacher.
Greedy actions have z = 0, which for two modes of continuous actions is a point between them; sampled actions have new noise in every step.

Deviations from the code (github.com/DongsuLeeTech/mac-flow at 6245080; discrete: a copy, github.com/jinnessism/FlowMARL at 19c9de0):
 1. The teacher is joint, as in the paper. In the code it is one flow per agent, with noise and time of its own, and knows no correlation.
    This is `teacher = "own"`.
 2. Networks have two hidden layers with ReLU and no normalization (code: four of 512 units with GELU; time as sines and cosines for
    discrete actions). Recurrent policies get the noise after the memory; the teacher has no memory.
 3. Discrete actions: the code ignores in training which actions are available.
 4. The code's recurrent encoder of discrete actions is random and never trained; there is none here.
 5. Sampled actions have new noise in every step. The code keeps one noise for a whole evaluation, or z = 0 for discrete actions.
 6. Sequences do not run into the next episode, as they do in the code.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); flows of points, Gaussians, categorical and joint actions, and
what policies can hold of them (tests/algorithms/test_macflow.py).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.config import UNCLIPPED, Common
from inspo_benchmark.learning.nets import AgentNet, NetworkKind


class NoisyPolicy(nn.Module):
    """mu_i(o_i, z_i): x [..., N, O + Z], observations beside noise -> outputs [..., N, outputs]. Noise enters after the memory.

    forward(x, memory=h): one step -> outputs, next h.
    """

    def __init__(self, agents: int, obs: int, noise: int, hidden: int, outputs: int, share: bool, network: NetworkKind):
        super().__init__()
        self.noise = noise
        recurrent = network == "gru"
        self.past = AgentNet(agents, obs, hidden, hidden, share, network) if recurrent else None
        self.net = AgentNet(agents, (hidden if recurrent else obs) + noise, hidden, outputs, share)

    def forward(self, x: Tensor, memory: Tensor | None = None):
        if self.past is not None:
            obs, z = x[..., : -self.noise], x[..., -self.noise :]
            past = self.past(obs, memory=memory)
            if memory is not None:
                past, memory = past
            x = torch.cat([F.relu(past), z], -1)
        out = self.net(x)
        return out if memory is None else (out, memory)


@ALGORITHMS.register("flow_bc")
class FlowBC(Algorithm):
    paper = "Flow BC (as in MAC-Flow, Lee et al. 2026, ICLR, arXiv 2511.05005)"

    @dataclass(frozen=True)
    class Config(Common):
        flow_steps: int = 10  # K, Euler steps of the teacher
        flow_dim: int = 256  # units per hidden layer of the teacher
        teacher: Literal["joint", "own"] = "joint"  # one flow of joint actions, or one of each agent's

        def __post_init__(self):
            super().__post_init__()
            if min(self.flow_steps, self.flow_dim) < 1:
                raise UserError("flow_steps and flow_dim must be at least 1")

    PAPER = {  # the codes' defaults for discrete and for continuous actions
        "smac": dict(lr=3e-4, hidden_dim=256, share_params=True, batch_size=32, seq_len=20, num_updates=1_000_000),
        "mujoco": dict(lr=3e-4, hidden_dim=512, flow_dim=512, share_params=True, batch_size=32, seq_len=20, num_updates=500_000),
    }
    OFFICIAL = {  # no gradient has the norm 1e9
        "smac": dict(teacher="own", max_grad_norm=UNCLIPPED),
        "mujoco": dict(teacher="own", max_grad_norm=UNCLIPPED),
    }
    TUNED = {
        "smac": dict(lr=1e-3),
        "mujoco": dict(lr=1e-3, flow_dim=256),
        "xor-*": dict(flow_dim=64, batch_size=64),
        "mne*": dict(flow_dim=64),
        "bridge-*": dict(flow_dim=64, batch_size=64, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        outputs = width = self.space.action_dim
        pi = NoisyPolicy(spec.num_agents, spec.obs_dim, width, c.hidden_dim, outputs, c.share_params, c.network)
        if c.teacher == "own":
            flow = AgentNet(spec.num_agents, spec.obs_dim + width + 1, c.flow_dim, width, True)
        else:
            seen = spec.state_dim + spec.num_agents * spec.obs_dim
            flow = AgentNet(1, seen + spec.num_agents * width + 1, c.flow_dim, spec.num_agents * width, True)
        return dict(pi=pi, flow=flow)

    def noise(self):
        c = self.cfg
        z = (c.batch_size, c.seq_len, self.spec.num_agents, self.space.action_dim)
        teams = self.spec.num_agents if c.teacher == "own" else 1
        return dict(flow=z, time=(c.batch_size, c.seq_len, teams, 1), policy=z)

    # the teacher: its "teams" are [B, L, 1, N D], or with a teacher of each agent's own [B, L, N, D] -----------------------------

    def teams(self, x):  # [B, L, N, D] -> per team
        return x if self.cfg.teacher == "own" else x.flatten(-2)[..., None, :]

    def velocity(self, f, b, x, t):  # v(x, t) at the rows b.now, per team
        seen = b.now.obs
        if self.cfg.teacher == "joint":
            seen = torch.cat([b.now.state, seen.flatten(-2)], -1)[..., None, :]
        return f.flow(torch.cat([seen, x, t.expand(*x.shape[:-1], 1)], -1))

    def flow_loss(self, on, tg, b, u):
        a = self.teams(self.space.encode(b.now.actions))
        z = self.teams(torch.special.ndtri(u["flow"]))
        t = u["time"]
        x = (1 - t) * z + t * a
        error = self.velocity(on, b, x, t) - (a - z)
        return masked_mean(b.mask[..., None, None], error**2)  # (1)

    def flow(self, f, b, z):  # x_K from noise z, [B, L, N, D]
        x = self.teams(z)
        steps = self.cfg.flow_steps
        for m in range(steps):
            t = torch.full_like(x[..., :1], m / steps)
            x = x + self.velocity(f, b, x, t) / steps  # (2)
        return x.reshape(z.shape)

    # the policies ----------------------------------------------------------------------------------------------------------------

    def pi(self, f, obs, z, memory=None):  # outputs of mu_i, [B, L, N, D]; with a memory, of one step, and the next memory
        return f.pi(torch.cat([obs, z], -1), memory=memory)

    def distillation(self, h, goal, b):  # per agent, [B, L, N]; h: outputs of mu, goal: x_K
        if self.space.kind == "discrete":
            best = self.space.mode(goal, b.now.avail)
            return -self.space.log_prob(h, best, b.now.avail)  # (3)
        return ((h - goal.clamp(-1, 1)) ** 2).mean(-1)  # (3)

    def policy_loss(self, on, tg, b, z, goal):
        h = self.pi(on, b.now.obs, z)
        return masked_mean(b.mask[..., None], self.distillation(h, goal, b))

    def update(self, s, b, d):
        s, loss_flow = self.gradient_step(s, "flow", self.flow_loss, b, d.u)
        z = torch.special.ndtri(d.u["policy"])
        goal = self.flow(self.online(s), b, z)
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, z, goal)
        return s, dict(loss_flow=loss_flow, loss_policy=loss_policy)

    # acting ----------------------------------------------------------------------------------------------------------------------

    @property
    def acting_noise_shape(self):
        return (self.space.action_dim,)

    def action_of(self, h, avail):  # logits -> the largest; continuous outputs, clipped
        return self.space.mode(h, avail) if self.space.kind == "discrete" else h.clamp(-1, 1)

    def action_params(self, f, obs, memory):
        """The outputs of mu_i at z = 0."""
        z = obs.new_zeros(*obs.shape[:-1], self.space.action_dim)
        return self.pi(f, obs, z, memory)

    def act(self, f, obs, avail, memory):
        h, memory = self.action_params(f, obs, memory)
        return self.action_of(h, avail), memory

    def act_sampled(self, f, obs, avail, memory, u):
        h, memory = self.pi(f, obs, torch.special.ndtri(u), memory)
        return self.action_of(h, avail), memory
