"""Shared training settings: what all methods have in common on the larger suites, so that tables compare methods and not budgets.

On SMAC and MuJoCo all methods have the same networks, sequence length, batch size and number of updates. The method's `TUNED` adds its
own settings. `--paper` trains with those of the method's paper instead (`PAPER`).

The published settings cannot share a table: they range from 500 updates of 128 whole episodes to a million updates of 128 transitions. On
SMAC the number of updates is one after which greedy policies hardly improve, although returns of sampled actions still rise: [training
budget](protocol.md#training-budget).

Learning rates, optimizers and the clipping of gradients are each method's own. Critics take one step per update, with a learning rate of
1e-3 (OMIGA: 5e-4, as published; ComaDICE: the same). The published code of ICQ takes one step per time step, about sixty per
update, with 1e-4; with a single step per update at that rate the critic of 3m is still noise after 3000 updates.

Rewards are shaped (`learning.shaping`) for every method with critics. In some thousand updates bootstrapping carries a reward back by a few
steps alone; a method that alone had shaped rewards would win because of them.

Agents act by a running mean of their weights over about the last 200 updates, for every method. Single iterates of training with small
minibatches differ so much that greedy scores of one run change from one evaluation to the next.

The games have no shared settings. How the values of `TUNED` were chosen: [docs/tuning.md](tuning.md).
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

SHARED = dict(network="mlp", hidden_dim=64, seq_len=1, burn_in=0, critic_lr=1e-3, shape_rewards=True, ema_rate=0.005)  # on both suites
BENCHMARK: dict[str, dict[str, Any]] = {  # suites or globs of tasks -> fields; a method does without those that it lacks
    "smac": SHARED | dict(share_params=False, batch_size=64, num_updates=10_000),
    "3m-*": dict(batch_size=128),
    "mujoco": SHARED | dict(share_params=True, batch_size=128, num_updates=15_000),
}


class Preset(NamedTuple):
    """A size or a variant of the whole benchmark: `run_benchmark.py --preset`, `make reproduce PRESET=`."""

    seeds: dict[str, int]  # globs of tasks -> number of seeds; a glob that fits nothing that is registered here is left out
    share: float  # of every method's updates
    variant: str = ""  # how its runs differ from those without a preset, for captions
    settings: dict[str, Any] = {}  # of every method, in place of the shared ones

    @property
    def about(self) -> str:
        """For --help."""
        return " or ".join(map(str, sorted(set(self.seeds.values())))) + " seeds" + f", {self.variant}" * bool(self.variant)

    @property
    def marked(self) -> bool:
        """Whether its runs differ from those without a preset. Their rows and captions then have the preset's name."""
        return self.share < 1 or bool(self.settings)

    def num_seeds(self, task: str) -> int | None:
        """None: the task is not part of the preset."""
        return next((seeds for glob, seeds in self.seeds.items() if fnmatchcase(task, glob)), None)


def grid(scenarios: Sequence[str], qualities: Sequence[str]) -> tuple[str, ...]:
    """Names of tasks."""
    return tuple(f"{scenario}-{quality}" for scenario in scenarios for quality in qualities)


GAMES = ("xor-*", "mne-*", "bridge-*")
SMAC = (
    *grid(("2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z"), ("medium", "medium_replay", "expert", "mixed")),  # of InSPO's and CFCQL's papers
    *grid(("3m", "8m", "3s5z", "MMM", "2c_vs_64zg"), ("medium", "medium_replay")),
    *grid(("terran_5_vs_5", "protoss_5_vs_5", "zerg_5_vs_5", "terran_10_vs_10"), ("medium", "medium_replay")),
)
MUJOCO = grid(("hopper_3x1", "halfcheetah_6x1", "ant_2x4"), ("medium", "medium_replay", "medium_expert", "expert"))  # of OMIGA's paper
PRESETS = {
    "demo": Preset(
        dict.fromkeys(("xor-ab_ba", "mne-imbalanced", "5m_vs_6m-medium"), 3),
        share=1.0,
        variant="2000 updates",
        settings=dict(num_updates=2000),
    ),
    "quick": Preset(dict.fromkeys((*GAMES, "2s3z-medium", "hopper_3x1-medium_replay"), 3), share=0.2, variant="a fifth of the updates"),
    "full": Preset(dict.fromkeys(GAMES, 10) | dict.fromkeys((*SMAC, *MUJOCO), 5), share=1.0),
    "recurrent": Preset(  # the field evaluates SMAC with memory
        dict.fromkeys(SMAC, 5),
        share=1.0,
        variant="recurrent policies, 16 sequences of 20 steps per update",
        settings=dict(network="gru", seq_len=20, batch_size=16),
    ),
}
