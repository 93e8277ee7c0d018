"""Behaviour cloning: the floor that every offline method has to beat.

    max_pi  E_{(o, a) ~ D}  sum_i log pi_i(a_i | o_i)                                                                   (1)

Agents are cloned independently, so the product of the cloned policies need not be a joint action of the data: on XOR data that
holds only the two optima it earns 0.

Deviations: none (there is no reference implementation to follow).
"""

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.suites import MUJOCO, SMAC
from inspo_benchmark.learning.algorithm import Algorithm, mean
from inspo_benchmark.learning.nets import AgentNet


@ALGORITHMS.register("bc")
class BC(Algorithm):
    paper = "Behaviour cloning (Pomerleau 1991)"
    PAPER = {  # rows per update as InSPO, and updates until nothing changes any more
        **{glob: dict(batch=64, steps=3000) for glob in (*SMAC, *MUJOCO)},
        "*3m-*": dict(batch=128),
        "xor-*": dict(batch=64, steps=500),
        "mne*": dict(steps=800),
        "bridge-*": dict(batch=32, steps=4000),
    }

    def nets(self):
        c, n = self.cfg, self.spec
        return dict(pi=AgentNet(n.agents, n.obs, c.hidden, self.space.head, c.share, c.memory))

    def policy_loss(self, on, tg, b):  # (1)
        log_pi = self.space.log_prob(on.pi(b.obs)[:, :-1], b.now.act, b.now.legal)
        return -mean(b.mask[..., None], log_pi)

    def update(self, s, b, d):
        s, loss = self.descend(s, "pi", self.policy_loss, b)
        return s, dict(loss_policy=loss)

    def heads(self, f, obs, memory):
        return f.pi(obs, memory=memory)
