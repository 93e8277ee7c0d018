"""The published datasets are what is built here: the committed hashes, for other threads and other batches."""

from pathlib import Path

import pytest

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets import catalog, collect
from inspo_benchmark.datasets.behavior import SHIPPED, shipped
from inspo_benchmark.datasets.dataset import content_sha256
from inspo_benchmark.envs import mamujoco
from inspo_benchmark.envs.smac import maps

TASKS.discover()
SCENARIOS = [name for name in maps.MAPS | maps.SCENARIOS if shipped(name)]
MUJOCO_SCENARIOS = [name for name in mamujoco.SCENARIOS if shipped(name)]


def test_every_dataset_that_can_be_built_is_published():
    built = {task.name for task in TASKS.values() if task.family in catalog.BUILDERS and catalog.is_available(task, Path("nowhere"))}
    assert built == set(catalog.manifest())
    assert {path.name for path in SHIPPED.iterdir() if path.is_dir()} == {*SCENARIOS, *MUJOCO_SCENARIOS}


@pytest.mark.parametrize(("threads", "num_envs"), [(1, 125), (2, 311)])
@pytest.mark.parametrize("name", ["3m-random", "3m-mixed"])
def test_threads_and_batches_change_nothing(name, threads, num_envs, monkeypatch):
    monkeypatch.setattr(collect, "THREADS", threads)
    monkeypatch.setattr(collect, "NUM_ENVS", num_envs)
    catalog.build(TASKS[name])  # refuses what is not published


@pytest.mark.slow  # minutes: all datasets of StarCraft
@pytest.mark.parametrize(
    "name", [f"{scenario}-{q}" for scenario in SCENARIOS for q in ("random", "medium", "medium_replay", "expert", "mixed")]
)
def test_smac_datasets_are_the_published_ones(name):
    assert content_sha256(catalog.build(TASKS[name])) == catalog.manifest()[name]["sha256"]


@pytest.mark.slow  # minutes as well
@pytest.mark.parametrize("name", [f"{scenario}-{q}" for scenario in MUJOCO_SCENARIOS for q in mamujoco.QUALITIES])
def test_mujoco_datasets_match_the_published_statistics(name):
    catalog.build(TASKS[name])  # refuses other content, unless the statistics are the published ones
