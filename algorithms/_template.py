"""Copy me to algorithms/<name>.py. A method is one file; registering it puts it on the command line, in the tests and in the tables.

Write here: the paper, its two or three defining equations with the paper's numbers, and a numbered list of deviations from the paper
and from its code. This one clones the actions that came before high rewards:

    w = exp(r / alpha) / mean exp(r / alpha),    max_pi  E_{(o, a, r) ~ D}  w sum_i log pi_i(a_i | o_i)                  (1)

Deviations: none, it is an example.
"""

from dataclasses import dataclass

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.nets import AgentNet


@ALGORITHMS.register("template")  # the name on the command line
class Template(Algorithm):
    paper = "Reward-weighted cloning (an example)"  # shown by --list

    @dataclass(frozen=True)
    class Config(Common):  # what every method has (lr, batch, window, steps, ...) and, with a default each:
        alpha: float = 1.0  # temperature of the weights

    PAPER = {"bridge-*": dict(alpha=0.5)}  # settings per task, globs of task names; the last match wins, --set beats all

    def nets(self):  # the networks of ONE run; seeds are batched outside
        c, n = self.cfg, self.spec
        return dict(pi=AgentNet(n.num_agents, n.obs_dim, c.hidden_dim, self.space.params_dim, c.share_params, c.network))

    def noise(self):  # uniforms on (0, 1) that `update` finds in d.u: name -> shape. All randomness comes in this way.
        return {}

    def policy_loss(self, on, tg, b):  # (1); `on` and `tg` are the online and the target networks, b a core.types.Batch
        w = (b.mask * b.rewards / self.cfg.alpha).exp()  # padding is not data: it must not count, nor overflow
        log_pi = self.space.log_prob(on.pi(b.obs)[:, :-1], b.now.actions, b.now.avail).sum(-1)
        return -masked_mean(b.mask, w / masked_mean(b.mask, w) * log_pi)

    def update(self, s, b, d):  # pure: state, batch, draw -> next state, scalars to log
        s, loss = self.gradient_step(s, "pi", self.policy_loss, b)  # one optimiser step of the networks named
        return s, dict(loss_policy=loss)

    def action_params(self, f, obs, memory):  # what agents act on: their own observations and memories, never the state
        return f.pi(obs, memory=memory)
