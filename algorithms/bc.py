"""Behavior cloning: what every offline method has to beat.

    max_pi  E_{(o, a) ~ D}  sum_i log pi_i(a_i | o_i)                                                                   (1)

Each agent is cloned independently of the others, so the product of the cloned policies need not be the joint behavior of the data. On
XOR data that hold only the two optima, it earns 0.

Deviation from the code (bc.yaml of github.com/thu-rllab/CFCQL at 3441019): policies do not see their last action.
"""

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.nets import AgentNet


@ALGORITHMS.register("bc")
class BC(Algorithm):
    paper = "Behavior cloning (Pomerleau 1991)"
    PAPER = {  # the code's bc.yaml: whole episodes in batches of 128
        "2s3z-*": dict(network="gru", share_params=True, seq_len=120, lr=5e-4, num_updates=1500),
        "3s_vs_5z-*": dict(network="gru", share_params=True, seq_len=250, lr=5e-4, num_updates=500),
        "5m_vs_6m-*": dict(network="gru", share_params=True, seq_len=70, lr=5e-4, num_updates=2800),
        "6h_vs_8z-*": dict(network="gru", share_params=True, seq_len=150, lr=5e-4, num_updates=1850),
    }
    TUNED = {
        "smac": dict(lr=1e-3),
        "xor-*": dict(batch_size=64, num_updates=500),
        "mne*": dict(num_updates=800),
        "bridge-*": dict(batch_size=32, num_updates=4000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        pi = AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, self.space.params_dim, c.share_params, c.network)
        return dict(pi=pi)

    def policy_loss(self, on, tg, b):
        h = on.pi(b.obs)[:, :-1]
        log_pi = self.space.log_prob(h, b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], log_pi)  # (1)

    def update(self, s, b, d):
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b)
        return s, dict(loss_policy=loss_policy)
