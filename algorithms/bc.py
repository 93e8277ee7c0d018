"""Behaviour cloning: the floor that every offline method has to beat.

    max_pi  E_{(o, a) ~ D}  sum_i log pi_i(a_i | o_i)                                                                   (1)

Agents are cloned independently, so the product of the cloned policies need not be a joint action of the data: on XOR data that
holds only the two optima it earns 0.

Deviations: none (there is no reference implementation to follow).
"""

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.suites import MUJOCO, SMAC
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.nets import AgentNet


@ALGORITHMS.register("bc")
class BC(Algorithm):
    paper = "Behaviour cloning (Pomerleau 1991)"
    PAPER = {  # rows per update as InSPO, and updates until nothing changes any more
        **{glob: dict(batch_size=64, num_updates=3000) for glob in (*SMAC, *MUJOCO)},
        "*3m-*": dict(batch_size=128),
        "xor-*": dict(batch_size=64, num_updates=500),
        "mne*": dict(num_updates=800),
        "bridge-*": dict(batch_size=32, num_updates=4000),
    }

    def nets(self):
        c, n = self.cfg, self.spec
        return dict(pi=AgentNet(n.num_agents, n.obs_dim, c.hidden_dim, self.space.params_dim, c.share_params, c.network))

    def policy_loss(self, on, tg, b):  # (1)
        log_pi = self.space.log_prob(on.pi(b.obs)[:, :-1], b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], log_pi)

    def update(self, s, b, d):
        s, loss = self.gradient_step(s, "pi", self.policy_loss, b)
        return s, dict(loss_policy=loss)

    def action_params(self, f, obs, memory):
        return f.pi(obs, memory=memory)
