"""plots.load: what is read, and that damaged or inconsistent files are refused with one line that names the file and the remedy."""

from pathlib import Path

import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.plots import load
from support.results import METRICS, write


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(out: Path) -> str:
    with pytest.raises(UserError) as caught:
        load.read(out)
    message = str(caught.value)
    assert "\n" not in message
    assert str(out) in message
    return message


def test_reads_every_row_with_its_provenance(tmp_path):
    write(tmp_path, "bc", "xor-ab", seeds=[0, 1])
    write(tmp_path, "bc", "xor-ab", seeds=[2], key="more")
    frame = load.read(tmp_path)
    assert len(frame) == 3 * 5 * len(METRICS)
    assert set(frame.seed) == {0, 1, 2}
    assert frame[["data_mean", "reference_low", "reference_high", "episodes", "per_step"]].drop_duplicates().values.tolist() == [
        [1.0, 0.5, 1.0, 320, True]
    ]
    assert load.references(frame) == {"xor-ab": (0.5, 1.0)}


def test_unfinished_files_are_not_there(tmp_path):
    write(tmp_path, "bc")
    Path(tmp_path, "runs", "bc", "xor-all-k.csv.part").write_text("half")
    assert set(load.read(tmp_path).task) == {"xor-ab"}


def test_overrides_are_in_one_column(tmp_path):
    write(tmp_path, "inspo", overrides={"sequential": False, "beta": 0.0}, key="o")
    write(tmp_path, "inspo")
    assert set(load.read(tmp_path).overrides) == {"", "beta=0.0, sequential=False"}


def test_missing_seeds_are_counted_against_the_full_product(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    write(tmp_path, "bc", "xor-all")
    write(tmp_path, "inspo", "xor-ab", seeds=[0, 1, 2, 4])
    frame = load.read(tmp_path)
    assert load.missing_seeds(frame) == [("inspo", "xor-ab", [3]), ("inspo", "xor-all", [0, 1, 2, 3, 4])]
    with pytest.raises(UserError, match=r"inspo on xor-ab \(3\); inspo on xor-all \(all\).*--draft"):
        load.require_complete(frame, "return")
    load.require_complete(frame[frame.algo == "bc"], "return")
    assert len(load.missing_seeds(frame, "win_rate")) == 4


def test_a_method_without_a_stochastic_policy_lacks_no_sampled_scores(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    write(tmp_path, "bc", "xor-all")
    write(tmp_path, "cfcql", "xor-ab", stochastic=False)
    frame = load.read(tmp_path)
    assert set(frame[frame.algo == "cfcql"].metric) == set(METRICS) - {"return_sampled"}  # what older versions sampled is left out
    assert load.missing_seeds(frame, "return_sampled") == [("cfcql", "xor-all", [0, 1, 2, 3, 4])]
    assert load.missing_seeds(frame, "return") == [("cfcql", "xor-all", [0, 1, 2, 3, 4])]


def test_no_runs_says_how_to_make_some(tmp_path):
    assert "run_benchmark.py" in refusal(tmp_path)


def test_a_run_without_provenance_is_refused(tmp_path):
    write(tmp_path).with_suffix(".json").unlink()
    assert "xor-ab-k.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("metric,value", "metric,score", "lacks a column"),
        ("return,", "return,x", "malformed"),
        ("return,", "return,1,", "malformed"),
        ("bc,xor-ab,0,0,", "bc,xor-ab,zero,0,", "malformed"),
        ("bc,xor-ab,0,0,", "bc,xor-ab,-inf,0,", "malformed"),
        ("bc,xor-ab,0,0,", "bc,xor-ab,0,inf,", "malformed"),
        ("bc,xor-ab,0,0,", "bc,xor-all,0,0,", "does not hold"),
        ("bc,xor-ab,0,0,return,", "bc,xor-ab,0,0,return,nan\nbc,xor-ab,0,0,other,", "return nan at seed 0, step 0"),
        ("bc,xor-ab,0,0,return,", "bc,xor-ab,0,0,return,-inf\nbc,xor-ab,0,0,other,", "return -inf"),
        ("bc,xor-ab,1,250,return,", "bc,xor-ab,1,251,return,", "different steps"),
        ("bc,xor-ab,1,250,return,", "bc,xor-ab,1,0,return,", "twice"),
    ],
)
def test_a_damaged_csv_is_refused(tmp_path, old, new, said):
    edit(write(tmp_path), old, new)
    assert said in refusal(tmp_path)


def test_every_score_reaches_the_last_step(tmp_path):
    path = write(tmp_path)
    rows = [f"bc,xor-ab,{seed},{step},win_rate,0.5\n" for seed in range(5) for step in (0, 1000) if (seed, step) != (1, 1000)]
    path.write_text(path.read_text() + "".join(rows))
    assert "was cut short: win_rate of seed 1 ends at step 0 of 1000" in refusal(tmp_path)
    path.write_text(path.read_text() + "bc,xor-ab,1,1000,win_rate,nan\n")
    assert "win_rate nan at seed 1, step 1000" in refusal(tmp_path)


def test_a_loss_may_diverge(tmp_path):
    edit(write(tmp_path), "loss_policy,", "loss_policy,nan\nbc,xor-ab,0,0,loss_other,")
    assert load.read(tmp_path).value.isna().sum() == 1


@pytest.mark.parametrize("row", ["bc,xor-ab,0,7,loss_x,1.0", "bc,xor-ab,77,1000,loss_x,1.0"])
def test_a_loss_without_a_score_is_refused(tmp_path, row):
    path = write(tmp_path)
    path.write_text(f"{path.read_text()}{row}\n")
    assert "has losses of seeds or at steps without scores" in refusal(tmp_path)


@pytest.mark.parametrize("left", [0, 30, 0.3, 0.5, -1, "bc,xor-ab,0,1000,", "bc,xor-ab,4,1000,return,"])
def test_a_csv_cut_anywhere_is_refused(tmp_path, left):
    path = write(tmp_path)
    text = path.read_text()
    keep = text.index(left) if isinstance(left, str) else int(left * len(text)) if isinstance(left, float) else left
    path.write_text(text[:keep])
    assert path.name in refusal(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{", "", "malformed"),
        ('"config"', '"konfig"', "no 'config'"),
        ("[0.5, 1.0]", "[1.0, 1.0]", "increasing"),
        ("[0.5, 1.0]", "[0.5, 0.5000000001]", "increasing"),
        ("[0.5, 1.0]", "[1.0]", "malformed"),
        ('"overrides": {}', '"overrides": null', "malformed"),
        ('"return_mean": 1.0', '"return_mean": null', "malformed"),
        ("[0, 1, 2, 3, 4]", "[0, 1, 2, 3, 4, 5]", "does not hold"),
    ],
)
def test_a_damaged_json_is_refused(tmp_path, old, new, said):
    edit(write(tmp_path).with_suffix(".json"), old, new)
    assert said in refusal(tmp_path)


def test_a_truncated_json_is_refused(tmp_path):
    path = write(tmp_path).with_suffix(".json")
    path.write_text(path.read_text()[:100])
    assert path.name in refusal(tmp_path)


@pytest.mark.parametrize(
    ("about", "field"),
    [
        ({"data": {"sha256": "other", "return_mean": 1.0}}, "data"),
        ({"evaluation": {"num_evals": 4, "eval_episodes": 8, "final_episodes": 320}}, "eval_episodes"),
        ({"backend": "matrix-2"}, "backend"),
        ({"reference": [0.0, 1.0]}, "reference"),
    ],
)
def test_runs_of_a_task_share_data_and_evaluation_schedule(tmp_path, about, field):
    write(tmp_path, "bc")
    write(tmp_path, "inspo", **about)
    assert f"differ in {field}" in refusal(tmp_path)


@pytest.mark.parametrize("preset", ["", "demo"])
def test_runs_of_a_suite_share_the_preset(tmp_path, preset):
    """Its name is in the captions of all tables of the suite."""
    write(tmp_path, "bc", "bridge-mix", preset=preset)
    write(tmp_path, "bc", "3m-medium", backend="smac-sim-1", preset="quick")
    load.read(tmp_path)
    write(tmp_path, "bc", "xor-all", preset="quick")
    message = refusal(tmp_path)
    assert f"runs of Games differ in preset: {preset or 'none'} in " in message
    assert "move one kind out of runs/" in message


def test_runs_of_a_method_share_the_config(tmp_path):
    write(tmp_path, "inspo", seeds=[0])
    write(tmp_path, "inspo", seeds=[1], key="new", config={"alpha": 0.3, "num_updates": 1000})
    message = refusal(tmp_path)
    assert "alpha: 0.1 in" in message
    assert "0.3 in" in message
    Path(tmp_path, "runs", "inspo", "xor-ab-new.csv").unlink()
    write(tmp_path, "omiga", config={"alpha": 0.3, "num_updates": 1000})
    load.read(tmp_path)


def test_a_seed_in_two_files_is_refused(tmp_path):
    write(tmp_path, "bc", seeds=[0, 1])
    write(tmp_path, "bc", seeds=[1, 2], key="again")
    message = refusal(tmp_path)
    assert "seed 1" in message
    assert "xor-ab-again.csv" in message
    assert "xor-ab-k.csv" in message
