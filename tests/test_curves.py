"""plots.curves: what is drawn, quietly, and the same bytes for the same rows."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from plots import curves, rows, stats, style
from tests.test_rows import TASKS, write

pytestmark = pytest.mark.filterwarnings("error")


def test_same_rows_give_the_same_bytes_and_overrides_change_nothing(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    write(tmp_path, "inspo", "xor-ab")
    pictures = []
    for _ in range(2):
        assert curves.run(["--out", str(tmp_path), "--metric", "return"]) == 0
        pictures.append({path.name: path.read_bytes() for path in Path(tmp_path, "figures").iterdir()})
        write(tmp_path, "inspo", "xor-ab", overrides={"beta": 0.0}, key="o")
    assert pictures[0] == pictures[1]
    assert set(pictures[0]) == {"curves-return.pdf", "curves-return.png", "aggregate-return.pdf", "aggregate-return.png"}
    assert not any(b"Date" in content for content in pictures[0].values())
    picture = matplotlib.image.imread(tmp_path / "figures" / "curves-return.png")
    assert picture[..., :3].std() > 0.01


def test_a_panel_shows_means_bands_and_both_reference_lines(tmp_path):
    for algo in ("bc", "inspo"):
        for task in TASKS:
            write(tmp_path, algo, task)
    frame = rows.read(tmp_path)
    figure = curves.curves(frame, "return")
    panels = {panel.get_title(): panel for panel in figure.axes}
    assert set(panels) >= set(TASKS)
    bc, inspo, data, best = panels["mne-imbalanced"].lines
    runs = frame[(frame.algo == "inspo") & (frame.task == "mne-imbalanced") & (frame.metric == "return")]
    assert inspo.get_ydata() == pytest.approx(runs.groupby("step").value.mean())
    assert bc.get_color() == style.algorithm("bc")[1]
    assert (data.get_ydata()[0], best.get_ydata()[0]) == (3.6, 10)
    band = panels["mne-imbalanced"].collections[1].get_paths()[0].get_extents()
    low, high = stats.interval([runs[runs.step == 1000].value.to_numpy()], np.mean, stats.rng())
    assert band.y1 >= high > low >= band.y0
    assert panels["xor-ab"].get_ylim() == panels["xor-all"].get_ylim() != panels["mne-balanced"].get_ylim()


@pytest.mark.parametrize("shape", ["one seed", "constant", "a metric missing", "tasks missing"])
def test_thin_data_is_drawn_quietly(tmp_path, shape):
    seeds = [0] if shape == "one seed" else range(3)
    tasks = list(TASKS)[:5] if shape == "tasks missing" else ["xor-ab"]
    for task in tasks:
        write(tmp_path, "bc", task, seeds=seeds, points=2)
    write(tmp_path, "inspo", tasks[0], seeds=seeds, points=2)
    frame = rows.read(tmp_path)
    if shape == "constant":
        frame["value"] = 1.0
    if shape == "a metric missing":
        frame = frame[frame.metric == "return_sampled"]
    for name, draw in (("curves", curves.curves), ("aggregate", curves.aggregate)):
        figure = draw(frame, "return")
        curves.save(figure, tmp_path / name)
        assert sum(panel.axison for panel in figure.axes) == (len(tasks) if name == "curves" else 1)


def test_holes_and_runs_with_overrides_alone_are_refused(tmp_path, capsys):
    write(tmp_path, "inspo", overrides={"beta": 0.0})
    assert curves.run(["--out", str(tmp_path)]) == 2
    assert "--set" in capsys.readouterr().err
    write(tmp_path, "inspo", "xor-ab")
    write(tmp_path, "bc", "xor-all")
    assert curves.run(["--out", str(tmp_path)]) == 2
    assert "inspo on xor-all (all)" in capsys.readouterr().err


def test_an_algorithm_without_an_entry_gets_lasting_looks():
    looks = [style.algorithm(f"new{k}") for k in range(20)]
    assert looks == [style.algorithm(f"new{k}") for k in range(20)]
    assert len(set(looks)) > 5
    assert not {look[1] for look in looks} & {look[1] for look in style.ALGORITHMS.values()}


def test_order_is_that_of_the_style_then_natural():
    assert style.order(["10m-x", "3m-x", "3m-x", "inspo", "bc"]) == ["bc", "inspo", "3m-x", "10m-x"]
    assert style.scenario("5m_vs_6m-expert") == "5m_vs_6m"
