"""plots.tables: what the tables say, that they refuse holes, that LaTeX takes them, that they come out the same again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from plots import rows, tables
from tests.test_rows import TASKS, write

pytestmark = pytest.mark.filterwarnings("error")


def fill(out, algos=("bc", "inspo"), tasks=TASKS, **options):
    for algo, skill in zip(algos, (0.5, 0.97, 0.8)):
        for task in tasks:
            write(out, algo, task, skill=skill, **options)


def files(out):
    return {path.name: path.read_bytes() for path in Path(out, "tables").iterdir()}


def test_number():
    shown = [tables.number(x) for x in (0, -0.001, -0.4, 99.994, 123.456, 3456.78, 0.125)]
    assert shown == ["0.00", "0.00", "\N{MINUS SIGN}0.40", "99.99", "123.5", "3457", "0.12"]
    assert tables.number(282.71, like=2522.0) == "283"


def test_main_table_holds_what_the_rows_say(tmp_path):
    fill(tmp_path)
    table, numbers = tables.main(rows.read(tmp_path), "return", "last")
    frame = rows.read(tmp_path)
    last = frame[(frame.step == 1000) & (frame.metric == "return") & (frame.task == "mne-balanced") & (frame.algo == "inspo")].value
    body, foot = table.blocks
    line = next(row for row in body if row[0].text == "mne-balanced")
    assert table.header == ["task", "dataset", "best known", "BC", "InSPO"]
    assert [cell.text for cell in line[:3]] == ["mne-balanced", "\N{MINUS SIGN}0.40", "10.00"]
    assert line[4] == (f"{last.mean():.2f} ± {last.std():.2f}", True)
    assert [row[0].text for row in body] == sorted(TASKS)
    assert foot[0][4].bold
    assert foot[1][4].text.startswith("[")
    assert "n = 5 seeds" in table.caption
    assert len(numbers) == 2 * (len(TASKS) + 1)


def test_protocols_differ_and_are_named(tmp_path):
    write(tmp_path)
    frame = rows.read(tmp_path)
    frame.loc[frame.step == 500, "value"] = 0.99
    (last, _), (best, _) = (tables.main(frame, "return", protocol) for protocol in ("last", "best"))
    assert best.blocks[0][0][3].text == "0.99 ± 0.00"
    assert last.blocks[0][0][3].text != best.blocks[0][0][3].text
    assert "last checkpoint" in last.caption
    assert "chosen by playing" in best.caption


def test_overrides_never_enter_the_main_table(tmp_path, capsys):
    fill(tmp_path)
    assert tables.run(["--out", str(tmp_path)]) == 0
    before = files(tmp_path)
    assert "ablation.md" not in before
    write(tmp_path, "inspo", "xor-ab", overrides={"sequential": False}, key="o", skill=0.1)
    assert tables.run(["--out", str(tmp_path)]) == 0
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert "sequential=False" in capsys.readouterr().out


def test_ablation_compares_with_the_unmodified_method_where_it_was_run(tmp_path):
    fill(tmp_path, tasks=["xor-ab", "xor-all", "bridge-mix"])
    write(tmp_path, "inspo", "xor-ab", overrides={"beta": 0.0}, key="o", skill=0.2, seeds=range(3))
    write(tmp_path, "inspo", "xor-all", overrides={"sequential": False}, key="o", skill=0.1)
    table, numbers = tables.ablation(rows.read(tmp_path, overrides=True), "return", "last")
    [block] = table.blocks
    assert table.header == ["method", "change", "xor-ab", "xor-all"]
    assert [[cell.text for cell in row[:2]] for row in block] == [["InSPO", "unmodified"], ["", "beta=0.0"], ["", "sequential=False"]]
    assert [cell.bold for cell in block[0][2:]] == [True, True]
    assert block[1][2].text.endswith("(n = 3)")
    assert block[1][3].text == "--"
    assert len(numbers) == 4


def test_a_hole_is_an_error_and_a_dash_in_a_draft(tmp_path, capsys):
    fill(tmp_path, tasks=["xor-ab", "xor-all"])
    Path(tmp_path, "runs", "bc", "xor-all-k.csv").unlink()
    assert tables.run(["--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: return is missing for bc on xor-all (all)")
    assert error.count("\n") == 1
    assert not Path(tmp_path, "tables").exists()
    assert tables.run(["--out", str(tmp_path), "--draft", "--metric", "return"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("| xor-all")).split("|")[4].strip() == "--"
    assert next(line for line in lines if line.startswith("| IQM")).split("|")[4].strip() == "--"


def test_one_seed_has_no_spread(tmp_path):
    fill(tmp_path, tasks=["xor-ab"], seeds=[0])
    table, _ = tables.main(rows.read(tmp_path), "return", "last")
    assert "±" not in "".join(cell.text for block in table.blocks for row in block for cell in row)
    assert table.blocks[1][1][3].text == "--"


def test_only_runs_with_overrides_give_no_main_table(tmp_path):
    write(tmp_path, "inspo", overrides={"steps": 1000})
    assert tables.run(["--out", str(tmp_path)]) == 0
    assert set(files(tmp_path)) == {"ablation.md", "ablation.tex", "ablation.csv"}


def test_tables_of_runs_that_are_gone_go(tmp_path):
    write(tmp_path, "inspo")
    path = write(tmp_path, "inspo", overrides={"beta": 0.0}, key="o")
    tables.run(["--out", str(tmp_path)])
    path.unlink()
    tables.run(["--out", str(tmp_path)])
    assert set(files(tmp_path)) == {"main.md", "main.tex", "main.csv"}


def test_regeneration_is_byte_identical_whatever_the_order_of_files(tmp_path):
    write(tmp_path / "a", "bc", seeds=range(5), key="k")
    write(tmp_path / "b", "bc", seeds=[3, 4], key="a")
    write(tmp_path / "b", "bc", seeds=[0, 1, 2], key="b")
    for out in ("a", "b"):
        tables.run(["--out", str(tmp_path / out)])
    first = files(tmp_path / "a")
    assert files(tmp_path / "b") == first
    tables.run(["--out", str(tmp_path / "a")])
    assert files(tmp_path / "a") == first


def test_csv_holds_the_numbers_in_full(tmp_path):
    fill(tmp_path, tasks=["xor-ab"])
    tables.run(["--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "tables" / "main.csv")
    assert set(table.metric) == {"return", "return_sampled"}  # there is nothing to win
    assert {"task", "algo", "n", "value", "std", "low", "high", "best", "close", "protocol"} <= set(table.columns)


def test_mistakes_on_the_command_line_end_with_one_line(tmp_path):
    """As a program: from the repository root, an empty folder, a folder that is a file."""
    root = Path(__file__).parents[1]
    write(tmp_path / "full")
    Path(tmp_path, "full", "tables").write_text("in the way")
    for out in ("empty", "full"):
        done = subprocess.run(
            [sys.executable, "-m", "plots.tables", "--out", tmp_path / out], cwd=root, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles_whatever_the_names(tmp_path):
    fill(tmp_path, algos=("bc", "inspo", "my_new & improved #1"))
    write(tmp_path, "inspo", "xor-ab_ba", overrides={"nets": "{a}^2~50%\\$"}, key="o")
    tables.run(["--out", str(tmp_path)])
    document = (
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{tables/main}\input{tables/ablation}\end{document}"
    )
    Path(tmp_path, "paper.tex").write_text(document)
    done = subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_win_rates_have_a_table_where_there_is_something_to_win(tmp_path):
    write(tmp_path, "bc", "xor-ab", data={"sha256": "0" * 64, "return_mean": 1.0, "win_rate": -1.0})
    path = write(tmp_path, "bc", "bridge-mix", data={"sha256": "1" * 64, "return_mean": -4.0, "win_rate": 0.5})
    path.write_text(path.read_text() + "".join(f"bc,bridge-mix,{seed},1000,win_rate,0.75\n" for seed in range(5)))
    frame = rows.read(tmp_path)
    table, numbers = tables.main(rows.measured(frame, "win_rate"), "win_rate", "last")
    assert [[cell.text for cell in row] for row in table.blocks[0]] == [["bridge-mix", "0.50", "1.00", "0.75 ± 0.00"]]
    assert table.caption.startswith("Win rate of greedy policies")
    assert numbers.value.tolist() == [0.75, 75.0]
