"""What `--paper` prints equals what the papers and their codes state.

The values below are typed from the official codes, not from the tables of the methods. What no setting can express is in each method's list
of deviations: one width for all networks (the codes' critics on SMAC have 256 units), no last action in the observation.
"""

from typing import Any, NamedTuple

import pytest

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.running.settings import settings_table

ALGORITHMS.discover()


class Published(NamedTuple):
    algo: str
    place: str
    tasks: dict[str, dict[str, Any]]  # task -> the values of this task alone
    common: dict[str, Any]  # values of all of these tasks


# CFCQL's repository, github.com/thu-rllab/CFCQL at 3441019: whole episodes in batches of 128 until 10.05e6 steps of data were drawn
EPISODES = {"2s3z": (120, 1500), "3s_vs_5z": (250, 500), "5m_vs_6m": (70, 2800), "6h_vs_8z": (150, 1850)}  # limit, about as many updates
RECURRENT = dict(network="gru", share_params=True, hidden_dim=64, batch_size=128, burn_in=0)


def on_smac(**of_map: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tasks of CFCQL's SMAC datasets -> sequence length, updates, and the given values of the map."""
    return {
        f"{name}-{quality}": dict(seq_len=limit, num_updates=updates) | of_map.get(name, {})
        for name, (limit, updates) in EPISODES.items()
        for quality in ("medium", "medium_replay", "expert", "mixed")
    }


def table(field: str, text: str, *qualities: str) -> dict[str, dict[str, Any]]:
    """Lines of a task's name and its values of a field, one per quality -> task -> value."""
    rows = [line.split() for line in text.strip().splitlines()]
    return {f"{name}-{quality}": {field: float(value)} for name, *values in rows for quality, value in zip(qualities, values, strict=True)}


def joined(*tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {task: {k: v for one in tables for k, v in one.get(task, {}).items()} for one in tables for task in one}


CONTINUOUS = ("random", "medium_replay", "medium", "expert")
OMAR_ALPHA = table(
    "alpha",
    """
    spread          0.5 1.0 5.0 5.0
    tag             0.5 0.5 5.0 5.0
    world           0.5 1.0 0.5 5.0
    halfcheetah_2x3 1.0 5.0 1.0 5.0
    """,
    *CONTINUOUS,
)
OMAR_COE = table(
    "coe",
    """
    spread          1.0 1.0 1.0 1.0
    tag             0.9 0.9 0.7 0.9
    world           1.0 0.7 0.1 0.9
    halfcheetah_2x3 1.0 0.9 0.7 0.5
    """,
    *CONTINUOUS,
)
OMAR_UPDATES = {  # main.py: counts by 100 (MPE) or 10
    f"{name}-{quality}": dict(num_updates=updates)
    for name, updates in (("spread", 2000), ("tag", 2000), ("world", 1000), ("halfcheetah_2x3", 100_000))
    for quality in CONTINUOUS
} | {"spread-random": dict(num_updates=6000), "tag-medium_replay": dict(num_updates=1000)}
CFCQL_ALPHA = table(
    "alpha",
    """
    spread          0.5 1.0 5.0  2.5
    tag             0.5 0.5 0.6  2.0
    world           0.5 0.5 0.32 0.3
    halfcheetah_2x3 0.1 0.4 1.0  1.7
    """,
    *CONTINUOUS,
)
CFCQL_MPE = {  # critic updates: five to every count of 100 (world: 20)
    f"{name}-{quality}": dict(lr=lr, num_updates=updates)
    for name, lr, updates in (("spread", 1e-2, 10_000), ("tag", 1e-3, 10_000), ("world", 1e-3, 25_000))
    for quality in CONTINUOUS
}
CFCQL_SMAC_ALPHA = table(
    "alpha",
    """
    2s3z     0.1  5.0  50.0 0.5
    3s_vs_5z 50.0 50.0 50.0 50.0
    5m_vs_6m 50.0 50.0 50.0 50.0
    6h_vs_8z 50.0 50.0 50.0 50.0
    """,
    *("medium", "medium_replay", "expert", "mixed"),
)
CFCQL_SMAC_TEMP = table(
    "lambda_temp",
    """
    2s3z     0.5 0.1 0.5 0.0
    3s_vs_5z 0.0 0.0 1.0 0.0
    6h_vs_8z 1.0 0.5 0.0 1.0
    """,
    *("medium", "medium_replay", "expert", "mixed"),
) | {f"5m_vs_6m-{quality}": dict(lambda_temp=0.5) for quality in ("medium", "medium_replay", "mixed")}
TWIN_CRITICS = dict(share_params=False, network="mlp", seq_len=1, gamma=0.95, max_grad_norm=0.5, num_samples=10)
MPE = TWIN_CRITICS | dict(hidden_dim=64, batch_size=1024, tau=0.01, target_update_interval=0, candidate_source="uniform")
HALFCHEETAH = TWIN_CRITICS | dict(hidden_dim=256, batch_size=256, lr=3e-4, tau=0.005, target_update_interval=0)


MACFLOW = dict(network="mlp", share_params=True, lr=3e-4, batch_size=32, seq_len=20, flow_steps=10, teacher="own", max_grad_norm=1e9)
ORYX = dict(network="gru", share_params=True, hidden_dim=128, lr=3e-4, batch_size=64, seq_len=20, gamma=0.99, tau=0.005) | dict(
    target_update_interval=0, max_grad_norm=10.0, num_updates=100_000, credit="own"
)


def of(task: str, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in rows.items() if name.startswith(task)}


def clones(task: str) -> bool:
    """Whether CFCQL depends on its behavior model."""
    return CFCQL_SMAC_TEMP.get(task, {}).get("lambda_temp") != 0


PUBLISHED = [
    Published("bc", "CFCQL's config/algs/bc.yaml", on_smac(), RECURRENT | dict(lr=5e-4, max_grad_norm=10.0)),
    Published(
        "icq",
        "CFCQL's config/algs/baseline_icq.yaml; temperatures, step of the critic and padding in ICQ's offpg learner",
        on_smac(),
        RECURRENT
        | dict(lr=5e-4, critic_lr=1e-4, optimizer="rmsprop", max_grad_norm=10.0, gamma=0.99, td_lambda=0.8, beta=0.1, beta_critic=1000.0)
        | dict(mixer="elu", mixing_dim=32, epsilon=0.0, count_padding=True, per_timestep_critic=True),
    ),
    Published(
        "icq",
        "github.com/YiqinYang/ICQ at 5a4da85, offpg_smac; lambda in the builder of targets; epsilon falls from 0.5 to 0.05",
        {"3s_vs_3z-expert": dict(seq_len=150, num_updates=40_002)},
        RECURRENT
        | dict(batch_size=32, lr=5e-4, critic_lr=1e-4, optimizer="rmsprop", max_grad_norm=20.0, gamma=0.99, td_lambda=0.75, beta=0.1)
        | dict(beta_critic=1000.0, mixer="linear", epsilon=0.05, count_padding=True, per_timestep_critic=True),
    ),
    Published(
        "omar",
        "CFCQL's config/algs/baseline_omar.yaml and its learner",
        on_smac(),
        RECURRENT
        | dict(lr=1e-3, max_grad_norm=10.0, gamma=0.99, td_lambda=0.6, alpha=5.0, coe=0.5, target_update_interval=25)
        | dict(search_discrete=False, count_unavailable=True, count_padding=True, per_timestep_critic=True),
    ),
    *(
        Published(
            "omar",
            "OMAR's algorithms/maddpg.py, lines 471-495 (alpha, coe), and main.py",
            of(name, joined(OMAR_ALPHA, OMAR_COE, OMAR_UPDATES)),
            MPE | dict(lr=1e-2, critic_sees_obs_only=True, search_rounds=3, search_samples=10, search_refit="softmax"),
        )
        for name in ("spread", "tag", "world")
    ),
    Published(
        "omar",
        "OMAR's algorithms/maddpg.py, lines 471-495 (alpha, coe), and main.py; the density in place of its logarithm",
        of("halfcheetah", joined(OMAR_ALPHA, OMAR_COE, OMAR_UPDATES)),
        HALFCHEETAH
        | dict(critic_sees_obs_only=True, search_rounds=2, search_samples=20, search_elites=5, search_refit="elites")
        | dict(candidate_source="density"),
    ),
    Published(
        "cfcql",
        "CFCQL's README.md (alpha, tau) and config/algs/cql_qmix.yaml",
        joined(
            {task: row | dict(num_updates=row["num_updates"] * (1 + clones(task))) for task, row in on_smac().items()},
            CFCQL_SMAC_ALPHA,
            CFCQL_SMAC_TEMP,
            {"5m_vs_6m-expert": dict(lambda_weights="argmax")},
        ),
        RECURRENT
        | dict(lr=1e-3, max_grad_norm=10.0, gamma=0.99, td_lambda=0.6, target_update_interval=25, counterfactual=True)
        | dict(count_unavailable=True, num_samples=100)  # these two with raw_cql, which is MACQL
        | dict(bc_share=0.5),  # the behavior model is trained first, on as many steps of data, if anything depends on it
    ),
    *(
        Published(
            "cfcql",
            "CFCQL's algorithms/maddpg.py and main.py, central_critic",
            of(name, joined(CFCQL_ALPHA, CFCQL_MPE)),
            MPE | dict(lambda_temp=0.0, policy_delay=5, counterfactual=True),
        )
        for name in ("spread", "tag", "world")
    ),
    Published(
        "cfcql",
        "CFCQL's algorithms/maddpg.py and main.py, central_critic; the densities of two sets exchanged",
        of("halfcheetah", CFCQL_ALPHA),
        HALFCHEETAH | dict(lambda_temp=0.0, policy_delay=5, counterfactual=True, num_updates=500_000, candidate_source="crossed"),
    ),
    Published(
        "omiga",
        "github.com/ZhengYinan-AIR/OMIGA at 39851c0, OMIGA.py and main.py",
        {
            f"{name}-{quality}": dict(num_updates=1_000_000)
            for name in ("halfcheetah_6x1", "hopper_3x1", "ant_2x4")
            for quality in ("medium", "medium_replay", "medium_expert", "expert")
        },
        OMIGA := dict(network="mlp", share_params=True, hidden_dim=256, batch_size=128, seq_len=1, lr=5e-4, gamma=0.99, tau=0.005)
        | dict(target_update_interval=0, max_grad_norm=1.0, alpha=10.0, mixing_dim=64),
    ),
    Published(
        "omiga",
        "github.com/ZhengYinan-AIR/OMIGA at b0c3d13 (branch SMAC), run_madt_sc2.py: 55 passes, about 15,000 updates",
        {f"{name}-{quality}": dict(num_updates=15_000) for name in ("5m_vs_6m", "6h_vs_8z") for quality in ("medium", "expert")},
        OMIGA,
    ),
    Published(
        "comadice",
        "github.com/vietbt/ComaDICE at eef0f74, main.py and run.py: 25 passes over 1e6 transitions; 10 and 400 over 1,000 episodes",
        {
            f"{name}-{quality}": dict(num_updates=195_000)
            for name in ("halfcheetah_6x1", "hopper_3x1", "ant_2x4")
            for quality in ("medium", "medium_replay", "medium_expert", "expert")
        }
        | {
            f"{name}-{quality}": dict(num_updates=updates, weight_max=2.0)
            for name, updates in (("5m_vs_6m", 2_700), ("6h_vs_8z", 109_000))
            for quality in ("medium", "expert")
        },
        dict(network="mlp", share_params=True, hidden_dim=256, batch_size=128, seq_len=1, lr=1e-4, gamma=0.99, tau=0.005)
        | dict(max_grad_norm=1.0, alpha=10.0, mixing_dim=64, nu_gradient="code", team_weight="mean"),
    ),
    *(
        Published(
            algo,
            "github.com/jinnessism/FlowMARL at 19c9de0, agents/discrete_macflow.py: defaults, the same for all tasks",
            {
                task: dict(num_updates=1_000_000)
                for task in ("3m-medium", "8m-medium", "2s3z-medium", "5m_vs_6m-medium", "2c_vs_64zg-medium")
            },
            MACFLOW | dict(hidden_dim=256, flow_dim=256) | switches,
        )
        for algo, switches in (("flow_bc", {}), ("macflow", dict(gamma=0.99, alpha=3.0, tau=0.005, improvement="argmax")))
    ),
    *(
        Published(
            algo,
            "github.com/DongsuLeeTech/mac-flow at 6245080, agents/macflow.py: defaults, the same for all tasks; alpha in its README.md",
            {task: dict(num_updates=500_000) for task in ("halfcheetah_6x1-medium", "hopper_3x1-medium_replay", "ant_2x4-expert")},
            MACFLOW | dict(hidden_dim=512, flow_dim=512) | switches,
        )
        for algo, switches in (("flow_bc", {}), ("macflow", dict(gamma=0.995, alpha=3.0, tau=0.005)))
    ),
    Published(
        "oryx",
        "github.com/instadeepai/og-marl at f4eb8f0, offline/configs, discrete: one file for all tasks",
        {f"{name}-medium": {} for name in ("2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z", "3m", "8m")},
        ORYX | dict(beta=0.1, beta_critic=1000.0),
    ),
    Published(
        "oryx",
        "github.com/instadeepai/og-marl at f4eb8f0, offline/configs, continuous: one file for all tasks",
        {f"{name}-medium_replay": {} for name in ("hopper_3x1", "ant_2x4", "halfcheetah_6x1", "halfcheetah_2x3")},
        ORYX | dict(beta=1.0, beta_critic=10_000.0),
    ),
    Published(
        "iql",
        "CFCQL's config/algs/baseline_iql.yaml",
        on_smac(),
        RECURRENT | dict(lr=1e-3, max_grad_norm=10.0, gamma=0.99, tau=0.005, target_update_interval=0, expectile=0.7, beta=3.0),
    ),
    Published(
        "alberdice",
        "github.com/dematsunaga/alberdice at 4d69f0e, settings of matrix and bridge: t_max / steps per iteration updates",
        {task: dict(batch_size=16, seq_len=50, num_updates=21_600) for task in ("xor-ab", "xor-ab_ba", "xor-aa_ab_ba", "xor-all")}
        | {task: dict(batch_size=128, seq_len=20, num_updates=147_600) for task in ("bridge-optimal", "bridge-mix")},
        dict(network="mlp", share_params=False, hidden_dim=128, lr=1e-4, gamma=0.99, alpha=5.0, alpha_end=0.001, cql_weight=0.1)
        | dict(grad_penalty=0.1, num_samples=16, count_unavailable=True),
    ),
]
CASES = [pytest.param(p, task, id=f"{p.algo}-{task}") for p in PUBLISHED for task in p.tasks]


@pytest.mark.parametrize(("published", "task"), CASES)
def test_paper_prints_the_published_settings(published, task):
    title, *lines = settings_table(published.algo, task, [], paper=True).splitlines()
    assert title == f"{published.algo} on {task}"  # and not that PAPER has no row
    printed = {name: value for name, value, source in map(str.split, lines)}
    assert {source for *_, source in map(str.split, lines)} <= {"default", "PAPER", "OFFICIAL"}
    wanted = {name: str(value) for name, value in (published.common | published.tasks[task]).items() if name in printed}
    assert {name: printed[name] for name in wanted} == wanted, published.place


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: f"{p.algo}-{next(iter(p.tasks))}")
def test_the_fields_of_the_published_settings_exist(published):
    """Settings of methods that lack a field of RECURRENT are passed over above, others are not."""
    known = {line.split()[0] for line in settings_table(published.algo, next(iter(published.tasks)), []).splitlines()[1:]}
    assert {*published.common, *(name for row in published.tasks.values() for name in row)} - known <= {"burn_in"}


def test_alberdice_is_not_clipped():
    [line] = [line for line in settings_table("alberdice", "bridge-mix", [], paper=True).splitlines() if line.split()[0] == "max_grad_norm"]
    assert float(line.split()[1]) >= 1e6
    assert line.split()[2] == "OFFICIAL"


def test_every_method_that_published_settings_is_here():
    assert {p.algo for p in PUBLISHED} == {name for name, a in ALGORITHMS.items() if a.PAPER and a.__module__.startswith("inspo_benchmark")}
