"""The benchmark's protocol: what methods have in common on the larger tasks, so that tables compare methods and not budgets.

A method's coefficients on a task are its paper's (PAPER in its file). Where the paper has none for it, or they fail under the protocol,
they are this project's (PAPER or PROTOCOL there): one coefficient, of at most five values, tried with three seeds (InSPO and AlberDICE,
whose papers' settings for StarCraft are not known or do not exist: several; CFCQL and OMAR: on other robots what their code has for one).
Network class and width, windows, minibatch and updates are these, the same for every method. On StarCraft they are those that the tables of
InSPO and BC have, so that their published results are under the protocol as they are. Critics take one step per update, at one learning
rate: the 1e-4 of ICQ's code is for one per time step, some sixty per update, and after 3000 steps at it the critic of 3m is noise. On the
small games every method has settings of this project, in its own PAPER. `run_benchmark.py --paper` leaves the protocol out and takes the
papers' networks, minibatches and updates as well.
"""

from typing import Any, NamedTuple

BENCHMARK: dict[str, dict[str, Any]] = {  # suites or globs of tasks -> fields; a method does without those that it lacks
    "smac": dict(network="mlp", share_params=False, hidden_dim=64, seq_len=1, burn_in=0, batch_size=64, num_updates=3000, critic_lr=1e-3),
    "*3m-*": dict(batch_size=128),
    "mujoco": dict(
        network="mlp", share_params=True, hidden_dim=64, seq_len=1, burn_in=0, batch_size=128, num_updates=15_000, critic_lr=1e-3
    ),
}


class Preset(NamedTuple):
    """A size of the whole benchmark: `run_benchmark.py --preset`, `make reproduce PRESET=`."""

    tasks: tuple[str, ...]  # globs; one that fits nothing that is registered here is left out
    seeds: int
    share: float  # of every method's updates; what is made with less than all is marked by the preset's name, in rows and captions
    about: str  # for captions


PRESETS = {
    "quick": Preset(
        (
            "xor-*",
            "mne-*",
            "bridge-*",
            "3m-medium",
            "3m-expert",
            "halfcheetah_6x1-medium_replay",
            "hopper_3x1-medium_replay",
            "ant_2x4-medium_replay",
        ),
        seeds=3,
        share=0.2,
        about="3 seeds, a fifth of the updates",
    ),
    "full": Preset(("*",), seeds=10, share=1.0, about="10 seeds"),
}
