"""Copy this file to algorithms/<name>.py. A method is one file; registering it puts it on the command line, in the tests and in the tables.

Write here: the paper, its two or three defining equations with the paper's numbers, and a numbered list of deviations from the paper
and from its code. Each line that computes an equation carries its number. This example clones the actions that earned high rewards:

    w = exp(r / alpha) / mean exp(r / alpha),    max_pi  E_{(o, a, r) ~ D}  w sum_i log pi_i(a_i | o_i)                  (1)

Deviations: none, it is an example.
"""

# Letters with one meaning in every method. Shapes: B sequences of L steps, N agents, E episodes in evaluation; O, S, P, H: entries of an
# observation, a state, action parameters, a recurrent state; A discrete actions, D dimensions of a continuous one; K candidate actions.
#   s       State: s.params, s.target, s.slots (of the optimizer), s.step
#   b       Batch: b.obs [B, L+1, N, O], b.state [B, L+1, S], b.actions [B, L+1, N] or [B, L+1, N, D], b.avail [B, L+1, N, A],
#           b.rewards, b.terminated, b.mask [B, L]; b.now and b.next hold its rows 0 .. L-1 and 1 .. L
#   d       Draw: d.u, the random numbers of this call by name; d.agent, the agent whose turn it is
#   on, tg  the networks with online and with target parameters, called as on.pi(x), or on.pi(x, agent=i) for one agent
#   f       the networks with parameters of the caller's choice
#   c       the configuration, self.cfg
#   u       uniform random numbers on (0, 1), of the shapes that `noise` declares
#   h       action parameters [..., P]: logits [..., A], or means and log standard deviations [..., 2 D]
#   a       actions, or K candidates of them [..., K] or [..., K, D]
#   i, j    the agent whose turn it is; one of its teammates
# Values keep the letters of their equations. Scalar losses are called loss_*.

from dataclasses import dataclass

import torch

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.nets import AgentNet


@ALGORITHMS.register("template")  # the name on the command line
class Template(Algorithm):
    paper = "Reward-weighted cloning (an example)"  # shown by --list

    @dataclass(frozen=True)
    class Config(Common):  # lr, batch_size and others, and your own fields, with types and defaults; Valued adds gamma, tau and others
        alpha: float = 1.0  # temperature of the weights

    # Settings per task. Keys are globs of task names, or the suites "smac" and "mujoco"; of the rows that match a task, the last one wins.
    # A field has the value of the last of these that names it: Config, the benchmark's shared settings, TUNED, the task's TOML file, the
    # preset, --set. With --paper: Config, PAPER, OFFICIAL, --set. PAPER = {...} is for what a paper or its code states, OFFICIAL = {...}
    # for switches that reproduce the published code's update.
    TUNED = {"bridge-*": dict(alpha=0.5)}

    def nets(self):  # the networks of one run; batching over seeds happens outside
        c = self.cfg
        spec = self.spec
        pi = AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, self.space.params_dim, c.share_params, c.network)
        return dict(pi=pi)

    def noise(self):  # name -> shape of the random numbers that `update` finds in d.u; there is no other source of randomness
        return {}

    def policy_loss(self, on, tg, b):
        log_w = torch.where(b.mask > 0, b.rewards / self.cfg.alpha, -torch.inf)  # padding is not data: it must not count
        w = b.mask.flatten().sum(0) * log_w.flatten().softmax(0).view(log_w.shape)  # (1); a softmax does not overflow
        h = on.pi(b.now.obs)
        log_pi = self.space.log_prob(h, b.now.actions, b.now.avail).sum(-1)
        return -masked_mean(b.mask, w * log_pi)  # (1)

    def update(self, s, b, d):  # pure: state, batch, draw -> next state, scalars to log
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b)  # one optimizer step of the named networks
        return s, dict(loss_policy=loss_policy)

    # Agents act with the network "pi", on their own observations and recurrent states. A method with other policies overrides
    # `action_params`, and names their networks in `acting`. A method that trains in parts overrides `stages`. One that acts greedily on
    # Q-values, and learns no distribution over actions, says `stochastic = False`: then nothing is sampled in evaluation.
