"""plots.tables: what the tables say, that missing runs are an error, that LaTeX compiles, that the same rows give the same bytes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from inspo_benchmark.algorithms.bc import BC
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.plots import load, style, table_writers, tables, tables_appendix
from support.results import TASKS, write

pytestmark = pytest.mark.filterwarnings("error")


def fill(out, algos=("bc", "inspo"), tasks=TASKS, **options):
    for algo, skill in zip(algos, (0.5, 0.97, 0.8)):
        for task in tasks:
            write(out, algo, task, skill=skill, **options)


def files(out):
    return {path.name: path.read_bytes() for path in Path(out, "tables").iterdir()}


def kinds(out):
    names = files(out)
    assert all(f"{Path(name).stem}{suffix}" in names for name in names for suffix in (".md", ".tex", ".csv"))
    return {Path(name).stem for name in names}


def test_number():
    shown = [table_writers.number(x) for x in (0, -0.001, -0.4, 99.994, 123.456, 3456.78, 0.125)]
    assert shown == ["0.00", "0.00", "\N{MINUS SIGN}0.40", "99.99", "123.5", "3457", "0.12"]
    assert table_writers.number(282.71, like=2522.0) == "283"


def test_main_table_holds_what_the_rows_say(tmp_path):
    fill(tmp_path)
    table, numbers = tables.main_table(load.read(tmp_path), "return", "last")
    frame = load.read(tmp_path)
    last = frame[(frame.step == 1000) & (frame.metric == "return") & (frame.task == "mne-balanced") & (frame.algo == "inspo")].value
    body, foot = [row for group in table.groups for row in group], table.foot
    line = next(row for row in body if row[0].text == "mne-balanced")
    assert table.header == ["task", "dataset", "optimum", "BC", "InSPO"]
    assert [cell.text for cell in line[:3]] == ["mne-balanced", "\N{MINUS SIGN}0.40", "10.00"]
    assert line[4] == (f"{last.mean():.2f} ± {last.std():.2f}", True)
    assert [row[0].text for row in body] == sorted(TASKS)
    assert [row[0].text for row in foot] == ["mean, normalized", "IQM, normalized", "95% interval", "mean rank"]
    assert all(foot[k][4].bold for k in (0, 1, 3))
    [iqm] = numbers[(numbers.task == tables.IQM) & (numbers.algo == "inspo")].itertuples()
    assert iqm.low < iqm.value < iqm.high
    assert foot[2][4].text == f"[{iqm.low:.1f}, {iqm.high:.1f}]"
    assert foot[3][4].text == "1.00"
    assert table.spans == [("", 1), ("reference", 3), ("methods", 1)]
    assert "n = 5 seeds" in table.caption
    assert len(numbers) == 2 * (len(TASKS) + 3)


def test_autoregressive_execution_is_marked_and_not_compared(tmp_path):
    """The best scores are Oryx's. The others are marked as if it were not there."""
    fill(tmp_path / "with", ("bc", "oryx", "inspo"))
    for task in TASKS:
        write(tmp_path / "without", "bc", task, skill=0.5)
        write(tmp_path / "without", "inspo", task, skill=0.8)
    (table, numbers), (other, _) = (tables.main_table(load.read(tmp_path / name), "return", "last") for name in ("with", "without"))
    assert table.header[3:] == ["BC", "Oryx*", "InSPO"]
    assert not any(row[4].bold or row[4].text.endswith(table_writers.CLOSE) for row in table.rows)
    assert [row[:4] + row[5:] for row in table.rows] == other.rows
    assert numbers[numbers.algo == "oryx"].value.max() == numbers.value.max()
    assert table.foot[3][4].text == table_writers.MISSING
    assert "*: autoregressive execution" in table.caption
    assert "autoregressive" not in other.caption


def test_the_execution_of_a_method_from_elsewhere_is_what_its_class_says(tmp_path, monkeypatch):
    """The best scores are those of a user's method. It has no † and no rank, and the best of the others are bold."""
    monkeypatch.setitem(ALGORITHMS, "mine", type("Mine", (BC,), {"execution": "autoregressive"}))
    style.autoregressive.cache_clear()
    try:
        fill(tmp_path, ("bc", "mine", "inspo"))
        table, _ = tables.main_table(load.read(tmp_path), "return", "last")
        assert style.autoregressive() == {"oryx", "mine"}
    finally:
        style.autoregressive.cache_clear()
    assert table.header[3:] == ["BC", "InSPO", "MINE*"]
    assert not any(row[5].bold or row[5].text.endswith(table_writers.CLOSE) for row in table.rows)
    assert all(row[4].bold for row in table.groups[0])
    assert [cell.text for cell in table.foot[3][3:]] == ["2.00", "1.00", table_writers.MISSING]


def test_checkpoints_differ_and_are_named(tmp_path):
    write(tmp_path)
    frame = load.read(tmp_path)
    frame.loc[frame.step == 500, "value"] = 0.99
    (last, _), (best, _) = (tables.main_table(frame, "return", checkpoint) for checkpoint in ("last", "best"))
    assert best.groups[0][0][3].text == "0.99 ± 0.00"
    assert last.groups[0][0][3].text != best.groups[0][0][3].text
    assert "last checkpoint" in last.caption
    assert "selected by online evaluation (optimistic)" in best.caption


def test_overrides_never_enter_the_main_table(tmp_path, capsys):
    fill(tmp_path)
    assert tables.main(["--out", str(tmp_path)]) == 0
    before = files(tmp_path)
    assert "ablation-games.md" not in before
    write(tmp_path, "inspo", "xor-ab", overrides={"sequential": False}, key="o", skill=0.1)
    assert tables.main(["--out", str(tmp_path)]) == 0
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert "sequential=False" in capsys.readouterr().out


def test_ablation_compares_with_the_unmodified_method_where_it_was_run(tmp_path):
    fill(tmp_path, tasks=["xor-ab", "xor-all", "bridge-mix"])
    write(tmp_path, "inspo", "xor-ab", overrides={"beta": 0.0}, key="o", skill=0.2, seeds=range(3))
    write(tmp_path, "inspo", "xor-all", overrides={"sequential": False}, key="o", skill=0.1)
    table, numbers = tables.ablation_table(load.read(tmp_path), "return", "last")
    [block] = table.groups
    assert table.header == ["method", "change", "xor-ab", "xor-all"]
    assert [[cell.text for cell in row[:2]] for row in block] == [["InSPO", "unmodified"], ["", "beta=0.0"], ["", "sequential=False"]]
    assert [cell.bold for cell in block[0][2:]] == [True, True]
    assert block[1][2].text.endswith("(n = 3)")
    assert block[1][3].text == "--"
    assert len(numbers) == 4


def test_no_link_or_image_comes_from_a_file(tmp_path):
    """Nor a code or a row of the table, with or without backslashes in front."""
    harm = r"![x](https://evil.example/p.png) [y](javascript:alert(1)) \[z][1] `a` \| b"
    write(tmp_path, "inspo", overrides={"beta": harm}, machine={"system": harm})
    assert tables.main(["--out", str(tmp_path), "--metric", "return"]) == 0
    expected = r"\![x\](https://evil.example/p.png) [y\](javascript:alert(1)) \\[z\][1] \`a\` \\\| b"
    assert f"| beta={expected} |" in Path(tmp_path, "tables", "ablation-games.md").read_text()
    write(tmp_path, "inspo", machine={"system": harm}, key="plain")
    assert tables.main(["--out", str(tmp_path), "--metric", "return"]) == 0
    costs = Path(tmp_path, "tables", "costs-games.md").read_text()
    assert "](" not in costs.replace(r"\](", "")
    assert "| [" in Path(tmp_path, "tables", "main-games.md").read_text()  # an interval


def test_tables_of_some_methods_and_tasks(tmp_path, capsys):
    for algo, task in (("bc", "xor-ab"), ("inspo", "xor-ab"), ("inspo", "mne-balanced"), ("omiga", "xor-ab")):
        write(tmp_path, algo, task)
    assert tables.main(["--out", str(tmp_path), "--metric", "return"]) == 2  # two runs are missing
    assert tables.main(["--out", str(tmp_path), "--metric", "return", "--algo", "bc", "in*", "--env", "xor-*"]) == 0
    shown = capsys.readouterr().out
    assert "| task | dataset | optimum | BC | InSPO |" in shown
    assert "mne" not in shown
    assert tables.main(["--out", str(tmp_path), "--algo", "inpso"]) == 2
    assert capsys.readouterr().err == "error: no algo of these runs matches 'inpso'; did you mean inspo?\n"
    assert tables.main(["--out", str(tmp_path), "--algo", "bc", "--env", "mne-*"]) == 2
    assert capsys.readouterr().err.startswith("error: no task of these runs matches 'mne-*'; ")


def test_tables_of_a_selection_leave_the_others(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    write(tmp_path, "bc", "2s3z-medium", backend="smac-sim-2")
    assert tables.main(["--out", str(tmp_path)]) == 0
    before = {path.name for path in (tmp_path / "tables").iterdir()}
    assert tables.main(["--out", str(tmp_path), "--env", "xor-ab"]) == 0
    assert {path.name for path in (tmp_path / "tables").iterdir()} == before
    for path in (tmp_path / "runs").glob("*/2s3z*"):
        path.unlink()
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert {path.name for path in (tmp_path / "tables").iterdir()} < before


def test_a_missing_run_is_an_error_and_a_dash_in_a_draft(tmp_path, capsys):
    fill(tmp_path, tasks=["xor-ab", "xor-all"])
    Path(tmp_path, "runs", "bc", "xor-all-k.csv").unlink()
    assert tables.main(["--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: return is missing for bc on xor-all (all)")
    assert error.count("\n") == 1
    assert not Path(tmp_path, "tables").exists()
    assert tables.main(["--out", str(tmp_path), "--draft", "--metric", "return"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("| xor-all")).split("|")[4].strip() == "--"
    assert next(line for line in lines if line.startswith("| IQM")).split("|")[4].strip() == "--"


def test_a_draft_says_what_its_aggregates_leave_out_and_has_no_best_of_one(tmp_path):
    fill(tmp_path, ("bc", "inspo", "omiga"), tasks=["xor-ab", "xor-all", "bridge-mix"])
    for algo, task in (("inspo", "bridge-mix"), ("omiga", "xor-all")):
        Path(tmp_path, "runs", algo, f"{task}-k.csv").unlink()
    frame = load.read(tmp_path)
    table, numbers = tables.main_table(frame, "return", "last", draft=True)
    assert table.header[3:] == ["BC", "OMIGA", "InSPO"]
    assert [row[3].text for row in table.foot][3] == "1.00"
    assert not any(cell.bold for row in table.foot for cell in row)
    assert not numbers.best[numbers.task.isin([tables.MEAN, tables.IQM, tables.RANK])].any()
    note = "The aggregates leave out methods without runs on all tasks: {}."
    assert note.format("OMIGA, InSPO") in table.notes
    write(tmp_path, "inspo", "bridge-mix")
    table, _ = tables.main_table(load.read(tmp_path), "return", "last", draft=True)
    assert note.format("OMIGA") in table.notes
    assert [cell.bold for cell in table.foot[1][3:]] == [False, False, True]


def test_one_seed_has_no_spread(tmp_path):
    fill(tmp_path, tasks=["xor-ab"], seeds=[0])
    table, _ = tables.main_table(load.read(tmp_path), "return", "last")
    assert "±" not in "".join(cell.text for row in table.rows for cell in row)
    assert table.foot[2][3].text == "--"


def test_only_runs_with_overrides_give_no_main_table(tmp_path):
    write(tmp_path, "inspo", overrides={"num_updates": 1000})
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert kinds(tmp_path) == {"ablation-games", "datasets"}


def test_tables_of_deleted_runs_are_deleted(tmp_path):
    write(tmp_path, "inspo")
    path = write(tmp_path, "inspo", overrides={"beta": 0.0}, key="o")
    tables.main(["--out", str(tmp_path)])
    assert "ablation-games" in kinds(tmp_path)
    Path(tmp_path, "tables", "mine.md").write_text("not ours")
    path.unlink()
    tables.main(["--out", str(tmp_path)])
    assert Path(tmp_path, "tables", "mine.md").read_text() == "not ours"
    Path(tmp_path, "tables", "mine.md").unlink()
    assert kinds(tmp_path) == {"main-games", "best-games", "hyperparameters-games", "costs-games", "datasets"}


def test_tables_of_other_metrics_stay(tmp_path):
    """As many as before remain when one metric is asked for, whether the runs have it or not."""
    write(tmp_path, "inspo")
    tables.main(["--out", str(tmp_path)])
    before = kinds(tmp_path)
    assert tables.main(["--out", str(tmp_path), "--metric", "win_rate"]) == 0
    assert kinds(tmp_path) == before >= {"main-games", "best-games"}


def test_regeneration_is_byte_identical_whatever_the_order_of_files(tmp_path):
    write(tmp_path / "a", "bc", seeds=range(5), key="k")
    write(tmp_path / "b", "bc", seeds=[3, 4], key="a")
    write(tmp_path / "b", "bc", seeds=[0, 1, 2], key="b")
    for out in ("a", "b"):
        tables.main(["--out", str(tmp_path / out)])
    first = files(tmp_path / "a")
    assert files(tmp_path / "b") == first
    tables.main(["--out", str(tmp_path / "a")])
    assert files(tmp_path / "a") == first


@pytest.mark.parametrize("suite", ["games", "smac", "smacv2", "mujoco", "mujoco-3000", "quick"])
def test_the_tables_of_the_reference_results_are_those_of_their_rows(tmp_path, suite):
    draft = suite == "smac"  # where flow BC lacks tasks, as the next test says
    reference = Path(__file__).parents[2] / "results" / "reference" / suite
    table_writers.write(tmp_path / "tables", tables.all_tables(reference, list(style.METRICS), draft), ())
    found, committed = files(tmp_path), files(reference)
    assert found.keys() == committed.keys()
    assert [name for name in found if found[name] != committed[name]] == []


def test_all_methods_but_flow_bc_have_all_tasks_of_smac():
    frame = load.read(Path(__file__).parents[2] / "results" / "reference" / "smac")
    assert {algo for algo, _, _ in load.missing_seeds(frame[frame.overrides == ""])} == {"flow_bc"}


def test_csv_holds_the_numbers_in_full(tmp_path):
    fill(tmp_path, tasks=["xor-ab"])
    tables.main(["--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "tables" / "main-games.csv")
    assert set(table.metric) == {"return", "return_sampled"}  # there is nothing to win
    assert {"task", "algo", "n", "value", "std", "low", "high", "best", "close", "checkpoint"} <= set(table.columns)


def test_mistakes_on_the_command_line_end_with_one_line(tmp_path):
    """As a program, from the repository root: an empty folder, and a file in place of a folder."""
    root = Path(__file__).parents[2]
    write(tmp_path / "full")
    Path(tmp_path, "full", "tables").write_text("in the way")
    for out in ("empty", "full"):
        done = subprocess.run(
            [sys.executable, "-m", "plots.tables", "--out", tmp_path / out], cwd=root, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_bc_alone_has_no_span_of_methods(tmp_path):
    """A span of no columns is no LaTeX."""
    write(tmp_path, "bc")
    table, _ = tables.main_table(load.read(tmp_path), "return", "last")
    assert table.spans == [("", 1), ("reference", 3)]


def compiled(out: Path) -> str:
    """The output of pdflatex for a paper with all tables."""
    inputs = "".join(rf"\input{{tables/{path.stem}}}\clearpage" for path in sorted(Path(out, "tables").glob("*.tex")))
    document = rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{inputs}\end{{document}}"
    Path(out, "paper.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = [subprocess.run(command, cwd=out, capture_output=True, text=True, errors="replace") for _ in range(2)][-1]  # twice: references
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles_whatever_the_names(tmp_path):
    fill(tmp_path, algos=("bc", "inspo", "my_new-method.1"))
    write(tmp_path, "inspo", "xor-ab_ba", overrides={"nets": "{a}^2~50%\\$<\u00e9>--`x`"}, key="o")
    write(tmp_path, "bc", "bridge-mix", key="d", seeds=[7], machine={"processor": "x_86 & co", "cores": 2, "device": "é", "system": "#"})
    assert tables.main(["--out", str(tmp_path), "--draft"]) == 0
    assert "Overfull" not in compiled(tmp_path)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_of_many_tasks_goes_on_on_another_page(tmp_path):
    many = [f"{maps}m-{quality}" for maps in range(3, 23) for quality in ("medium", "expert", "mixed")]
    for algo in ("bc", "inspo"):
        for task in many:
            write(tmp_path, algo, task, seeds=[0, 1], points=1, backend="smac-sim-1")
    assert tables.main(["--out", str(tmp_path), "--metric", "return"]) == 0
    text = Path(tmp_path, "tables", "main-smac.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert all(text.count(f"\n{task} &") == 1 for task in many)
    assert "too large" not in compiled(tmp_path)


def test_suites_have_tables_of_their_own_and_missing_runs_are_counted_in_each(tmp_path, capsys):
    fill(tmp_path, tasks=["xor-ab", "xor-all"])
    write(tmp_path, "bc", "3m-medium", backend="smac-sim-1")
    write(tmp_path, "bc", "halfcheetah_6x1-medium", backend="mujoco-4.0.0")
    write(tmp_path, "bc", "new-game", backend="checkers 2")
    assert tables.main(["--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert {f"main-{suite}" for suite in ("games", "smac", "mujoco", "checkers")} < kinds(tmp_path)
    text = Path(tmp_path, "tables", "main-mujoco.md").read_text()
    assert "MuJoCo: return of greedy policies" in text
    assert "InSPO" not in text
    assert "| new-game |" in said


def test_a_preset_is_named_in_every_caption_and_not_mixed_with_full_runs(tmp_path, capsys):
    write(tmp_path, "bc", preset="quick")
    write(tmp_path, "inspo", preset="quick")
    write(tmp_path, "inspo", overrides={"beta": 0.0}, key="o", preset="quick")
    assert tables.main(["--out", str(tmp_path)]) == 0
    for name in ("main-games", "best-games", "ablation-games", "costs-games", "hyperparameters-games"):
        assert "Preset quick: a fifth of the updates; not" in Path(tmp_path, "tables", f"{name}.md").read_text(), name
    write(tmp_path, "omiga")
    assert tables.main(["--out", str(tmp_path)]) == 2
    assert "differ in preset" in capsys.readouterr().err


def test_methods_with_other_numbers_of_updates_have_a_note_where_the_budget_is_shared(tmp_path):
    for suite, backend in (("smac", "smac-sim-1"), ("games", "matrix-1")):
        write(tmp_path, "bc", f"{suite}-x", backend=backend)
        path = write(tmp_path, "omiga", f"{suite}-x", backend=backend, config={"num_updates": 2000})
        path.write_text(path.read_text().replace(",1000,", ",2000,"))
    frames = dict(load.suites(load.read(tmp_path)))
    notes = {suite: tables.main_table(frame, "return", "last")[0].notes for suite, frame in frames.items()}
    note = "The methods differ in the number of updates: BC 1000, OMIGA 2000."
    assert [note in notes[suite] for suite in ("smac", "games")] == [True, False]
    one = frames["smac"][frames["smac"].algo == "bc"]
    assert not any("number of updates" in line for line in tables.main_table(one, "return", "last")[0].notes)


def test_settings_are_what_the_runs_were_made_with(tmp_path):
    write(tmp_path, "bc", "xor-ab", config={"lr": 0.001, "num_updates": 1000})
    write(tmp_path, "bc", "bridge-mix", config={"lr": 0.001, "num_updates": 1000})
    write(tmp_path, "inspo", "xor-ab", config={"lr": 0.001, "num_updates": 1000, "beta": 0.5, "share_params": False})
    write(tmp_path, "inspo", "xor-all", config={"lr": 0.001, "num_updates": 1000, "beta": 0.5, "share_params": False})
    write(tmp_path, "inspo", "bridge-mix", config={"lr": 0.001, "num_updates": 1000, "beta": 0.0, "share_params": False})
    write(tmp_path, "inspo", "bridge-mix", overrides={"lr": 1.0}, key="o")
    (common, numbers), (varying, _) = tables_appendix.hyperparameters(load.result_files(tmp_path))
    assert [[cell.text for cell in row] for row in common.rows] == [
        ["lr", "0.001", "0.001"],
        ["num_updates", "1000", "1000"],
        ["beta", "--", "by task"],
        ["share_params", "--", "false"],
    ]
    lines = [[cell.text for cell in row] for row in varying.rows]
    assert lines == [["InSPO", "bridge-mix", "beta = 0"], ["", "xor-ab, xor-all", "beta = 0.5"]]
    assert len(numbers) == 2 * 2 + 3 * 4


def test_costs_by_hand(tmp_path):
    write(tmp_path, "bc", "xor-ab", seeds=range(4), wall_seconds=40.0, peak_memory=3 << 29, evaluation_share=0.125)
    write(tmp_path, "bc", "xor-all", seeds=range(4), wall_seconds=160.0)
    write(tmp_path, "inspo", "xor-all", seeds=range(4))
    table, numbers = tables_appendix.costs(load.result_files(tmp_path))
    assert [cell.text for cell in table.rows[0]] == ["BC", "2", "8", "8,000", "62", "25 .. 100", "12", "0.06", "1.50"]
    assert [cell.text for cell in table.rows[1]][4:] == ["--", "--", "--", "0.00", "--"]
    assert numbers.rate[0] == 62.5
    assert "experiments that did not record it are left out" in table.notes[0]


def test_costs_leave_ablations_out(tmp_path):
    write(tmp_path, "bc", wall_seconds=50.0)
    write(tmp_path, "bc", overrides={"lr": 0.1}, key="o", wall_seconds=500.0)
    [(table, _)] = tables.all_tables(tmp_path, ["return"])["costs-games"]
    assert [cell.text for cell in table.rows[0]][:5] == ["BC", "1", "5", "5,000", "100"]


def test_datasets_describe_themselves(tmp_path):
    data = {
        "sha256": "ab" * 32,
        "source": "built",
        "episodes": 5000,
        "steps": 132732,
        "return_mean": 1.0,
        "return_std": 0.5,
        "win_rate": 0.25,
    }
    write(tmp_path, "bc", "xor-ab", data=data)
    write(tmp_path, "inspo", "xor-ab", data=data)
    [row] = tables_appendix.datasets(load.result_files(tmp_path))[0].rows
    texts = ["xor-ab", "matrix-1", "built", "5,000", "132,732", "1.00 ± 0.50", "25.0%", "0.50", "1.00", "abababababab"]
    assert [cell.text for cell in row] == texts


def test_published_numbers_are_apart_and_say_that_they_cannot_be_compared(tmp_path):
    path = write(tmp_path, "omiga", "halfcheetah_6x1-medium", backend="mujoco-4.0.0")
    frame = load.read(tmp_path)
    [(table, numbers)] = tables_appendix.published(frame)
    last = frame[(frame.metric == "return") & (frame.step == 1000)].value
    line = [cell.text for cell in table.rows[1]]
    assert line[:5] == ["halfcheetah_6x1-medium", "OMIGA", "return", f"{last.mean():.2f} ± {last.std():.2f} (n = 5)", "3608 ± 237"]
    assert "NOT COMPARABLE" in table.caption
    assert table.notes[0].startswith("NOT COMPARABLE")
    assert "arXiv:2410.01954" in table.notes[1]
    assert not set(numbers.columns) & {"best", "close"}
    assert tables_appendix.published(frame.assign(task="unpublished")) == []
    assert path.exists()


def test_every_published_number_has_a_source():
    paper = pd.read_csv(tables_appendix.PAPER)
    assert list(paper.columns) == ["algo", "task", "metric", "mean", "std", "seeds", "setup", "source"]
    assert paper.drop(columns=["std", "seeds"]).notna().all(axis=None)
    assert not paper.duplicated(["algo", "task", "metric", "source"]).any()


def test_win_rates_have_a_table_where_there_is_something_to_win(tmp_path):
    write(tmp_path, "bc", "xor-ab", data={"sha256": "0" * 64, "return_mean": 1.0, "win_rate": -1.0})
    path = write(tmp_path, "bc", "bridge-mix", data={"sha256": "1" * 64, "return_mean": -4.0, "win_rate": 0.5})
    path.write_text(path.read_text() + "".join(f"bc,bridge-mix,{seed},1000,win_rate,0.75\n" for seed in range(5)))
    frame = load.read(tmp_path)
    table, numbers = tables.main_table(load.for_metric(frame, "win_rate"), "win_rate", "last")
    assert [[cell.text for cell in row] for row in table.groups[0]] == [["bridge-mix", "0.50", "1.00", "0.75 ± 0.00"]]
    assert table.caption.startswith("Games: win rate of greedy policies")
    assert numbers.value.tolist() == [0.75, 75.0, 75.0, 1.0]


def test_a_method_without_a_stochastic_policy_has_dashes_and_a_note(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    write(tmp_path, "cfcql", "xor-ab", stochastic=False)
    frame = load.read(tmp_path)
    table, _ = tables.main_table(frame, "return_sampled", "last")
    assert table.header == ["task", "dataset", "optimum", "BC", "CFCQL"]
    assert {row[4].text for row in table.rows} == {"--"}
    assert any(note.startswith("CFCQL: --") for note in table.notes)
    table, _ = tables.main_table(frame, "return", "last")
    assert table.rows[0][4].text != "--"
    assert not any("CFCQL" in note for note in table.notes)
    assert tables.main(["--out", str(tmp_path)]) == 0  # nothing is missing


def test_the_behavior_policies_have_a_column_if_they_are_known(tmp_path):
    data = {"return_mean": 5.0, "win_rate": 0.5}
    known = {"behavior_greedy_return": 7.0, "behavior_greedy_win_rate": 0.25}
    for k, (task, about) in enumerate({"3m-medium": data | known, "3m-random": data}.items()):
        path = write(tmp_path, "bc", task, data={"sha256": f"{k}" * 64} | about)
        path.write_text(path.read_text() + "".join(f"bc,{task},{seed},1000,win_rate,0.75\n" for seed in range(5)))
    frame = load.read(tmp_path)
    table, _ = tables.main_table(frame, "return", "last")
    assert table.header[:4] == ["task", "dataset", "behavior", "optimum"]
    assert [[cell.text for cell in row[1:4]] for row in table.rows[:2]] == [["5.00", "7.00", "20.00"], ["5.00", "--", "20.00"]]
    assert table.rows[2][3].text == "100"
    table, _ = tables.main_table(load.for_metric(frame, "win_rate"), "win_rate", "last")
    assert [[cell.text for cell in row[1:4]] for row in table.rows[:2]] == [["0.50", "0.25", "1.00"], ["0.50", "--", "1.00"]]
    assert any(note.startswith("Behavior: ") for note in table.notes)


def test_every_aggregate_is_over_the_informative_tasks(tmp_path):
    """The others turn the order of the methods around."""
    for algo, skill in (("bc", 0.4), ("inspo", 0.6)):
        for out in ("all", "informative"):
            write(tmp_path / out, algo, "2s3z-medium", skill=skill, backend="smac-sim-2")
        for task in ("3m-medium", "3m-medium_replay"):
            write(tmp_path / "all", algo, task, skill=1 - skill, spread=0.2, backend="smac-sim-2")
    (found, _), (expected, _) = (tables.main_table(load.read(tmp_path / out), "return", "last") for out in ("all", "informative"))
    assert found.foot == expected.foot
    assert [cell.text for cell in found.foot[3][3:]] == ["2.00", "1.00"]


def test_aggregates_leave_easy_tasks_out(tmp_path):
    for task, skill in (("3m-medium", 0.1), ("2s3z-medium", 0.9)):
        write(tmp_path, "bc", task, seeds=[0, 1], skill=skill, backend="smac-sim-2")
    alone = tmp_path / "alone"
    write(alone, "bc", "3m-medium", seeds=[0, 1], backend="smac-sim-2")
    table, numbers = tables.main_table(load.read(tmp_path), "return", "last")
    [mean] = numbers[numbers.task == tables.MEAN].value
    [task_mean] = numbers[numbers.task == "2s3z-medium"].value
    low, high = load.references(load.read(tmp_path))["2s3z-medium"]
    assert mean == pytest.approx(100 * (task_mean - low) / (high - low))
    assert any("leave out tasks that do not tell methods apart: 3m-medium." in note for note in table.notes)
    table, numbers = tables.main_table(load.read(alone), "return", "last")  # nothing else would be left
    assert len(numbers[numbers.task == tables.MEAN]) == 1
    assert not any("leave out" in note for note in table.notes)
