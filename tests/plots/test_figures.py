"""plots.figures: what is drawn, without warnings, and the same bytes for the same rows."""

import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from inspo_benchmark.plots import aggregates, curves, figures, load, report, stats, style
from support.results import TASKS, write

pytestmark = pytest.mark.filterwarnings("error")


def test_same_rows_give_the_same_bytes_and_overrides_change_nothing(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    write(tmp_path, "inspo", "xor-ab")
    pictures = []
    for _ in range(2):
        assert figures.main(["--out", str(tmp_path), "--metric", "return", "--pdf"]) == 0
        pictures.append({path.name: path.read_bytes() for path in Path(tmp_path, "figures").iterdir() if "ablation" not in path.name})
        write(tmp_path, "inspo", "xor-ab", overrides={"beta": 0.0}, key="o")
    assert pictures[1].pop("figures.tex") != pictures[0]["figures.tex"]
    assert pictures[0].items() >= pictures[1].items()
    kinds = ("curves", "scores", "efficiency", "aggregate", "profiles", "improvement")
    expected = {f"{kind}-games-return.{suffix}" for kind in kinds for suffix in ("pdf", "png")} | {"figures.tex"}
    assert set(pictures[0]) == expected
    assert {path.name for path in Path(tmp_path, "figures").glob("ablation*")} == {
        f"ablation-games-inspo-return.{x}" for x in ("pdf", "png")
    }
    assert not any(b"Date" in content for content in pictures[0].values())
    assert all(b"/Type3" not in content for name, content in pictures[0].items() if name.endswith(".pdf"))  # fonttype 42
    picture = matplotlib.image.imread(tmp_path / "figures" / "curves-games-return.png")
    assert picture[..., :3].std() > 0.01


def test_a_panel_shows_means_bands_and_both_reference_lines(tmp_path):
    for algo in ("bc", "inspo"):
        for task in TASKS:
            write(tmp_path, algo, task)
    frame = load.read(tmp_path)
    [figure] = curves.learning_curves(frame, "return")
    panels = {panel.get_title(): panel for panel in figure.axes}
    assert set(panels) >= set(TASKS)
    bc, inspo, data, best = panels["mne-imbalanced"].lines
    runs = frame[(frame.algo == "inspo") & (frame.task == "mne-imbalanced") & (frame.metric == "return")]
    assert inspo.get_ydata() == pytest.approx(runs.groupby("step").value.mean())
    assert bc.get_color() == style.algorithm("bc")[1]
    assert (data.get_ydata()[0], best.get_ydata()[0]) == (3.6, 10)
    band = panels["mne-imbalanced"].collections[1].get_paths()[0].get_extents()
    low, high = stats.interval([runs[runs.step == 1000].value.to_numpy()], np.mean, stats.rng(), stats.CURVE_RESAMPLES)
    assert band.y1 >= high > low >= band.y0
    assert panels["xor-ab"].get_ylim() == panels["xor-all"].get_ylim() != panels["mne-balanced"].get_ylim()


@pytest.mark.parametrize("shape", ["one seed", "constant", "a metric missing", "tasks missing"])
def test_thin_data_is_drawn_without_warnings(tmp_path, shape):
    seeds = [0] if shape == "one seed" else range(3)
    tasks = list(TASKS)[:5] if shape == "tasks missing" else ["xor-ab"]
    for task in tasks:
        write(tmp_path, "bc", task, seeds=seeds, points=2)
    write(tmp_path, "inspo", tasks[0], seeds=seeds, points=2)
    frame = load.read(tmp_path)
    if shape == "constant":
        frame["value"] = 1.0
    if shape == "a metric missing":
        frame = frame[frame.metric == "return_sampled"]
    draw = [*curves.learning_curves(frame, "return"), *curves.run_scores(frame, "return")]
    assert [sum(panel.axison for panel in figure.axes) for figure in draw] == [len(tasks)] * 2
    draw += [
        curves.sample_efficiency(frame, "return"),
        aggregates.iqm_intervals(frame, "return"),
        aggregates.performance_profiles(frame, "return"),
    ]
    for k, figure in enumerate([*draw, aggregates.improvement(frame, "return", "inspo")]):
        figures.save(figure, tmp_path / str(k))


def test_missing_runs_are_refused(tmp_path, capsys):
    write(tmp_path, "inspo", "xor-ab")
    write(tmp_path, "bc", "xor-all")
    assert figures.main(["--out", str(tmp_path)]) == 2
    assert "inspo on xor-all (all)" in capsys.readouterr().err
    assert figures.main(["--out", str(tmp_path), "--draft", "--metric", "return"]) == 0


def test_runs_with_overrides_alone_make_ablations_alone(tmp_path):
    write(tmp_path, "inspo", overrides={"beta": 0.0})
    assert figures.main(["--out", str(tmp_path), "--metric", "return"]) == 0
    assert {path.stem for path in Path(tmp_path, "figures").glob("*.p*")} == {"ablation-games-inspo-return"}


def test_figures_of_deleted_runs_are_deleted(tmp_path):
    path = write(tmp_path, "inspo", overrides={"beta": 0.0}, key="o")
    write(tmp_path, "inspo")
    assert figures.main(["--out", str(tmp_path), "--metric", "return"]) == 0
    Path(tmp_path, "figures", "mine.png").write_text("not ours")
    path.unlink()
    assert figures.main(["--out", str(tmp_path), "--metric", "return"]) == 0
    names = {path.stem for path in Path(tmp_path, "figures").iterdir()}
    assert "mine" in names
    assert not any(name.startswith("ablation") for name in names)
    assert figures.main(["--out", str(tmp_path), "--metric", "return_sampled"]) == 0
    assert names < {path.stem for path in Path(tmp_path, "figures").iterdir()}  # figures of another metric stay


def test_pdf_is_written_on_demand_and_does_not_go_stale(tmp_path):
    write(tmp_path, "inspo")
    for options, suffixes in (([], {".png"}), (["--pdf"], {".png", ".pdf"}), ([], {".png"})):
        assert figures.main(["--out", str(tmp_path), "--metric", "return", *options]) == 0
        assert {path.suffix for path in Path(tmp_path, "figures").iterdir()} == {*suffixes, ".tex"}


def test_many_tasks_make_several_pages_that_fit_on_paper(tmp_path):
    many = [f"{maps}m-{quality}" for maps in range(3, 13) for quality in ("random", "medium", "medium_replay", "expert", "mixed")]
    for task in many:
        write(tmp_path, "bc", task, seeds=[0, 1], points=1, backend="smac-sim-1")
    frame = load.read(tmp_path)
    for draw in (curves.learning_curves, curves.run_scores):
        pages = list(draw(frame, "return"))
        titles = [panel.get_title() for page in pages for panel in page.axes if panel.get_title()]
        assert titles == style.order(many)
        assert len(pages) == 3
        assert all(page.get_figwidth() == style.WIDE and page.get_figheight() <= 9.5 for page in pages)


def test_scores_show_every_run(tmp_path):
    for algo in ("bc", "inspo"):
        write(tmp_path, algo, "xor-ab")
    frame = load.read(tmp_path)
    [figure] = curves.run_scores(frame, "return")
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    last = frame[(frame.metric == "return") & (frame.step == 1000)]
    scores = [sorted(last[last.algo == algo].value) for algo in ("inspo", "bc")]
    assert [sorted(line.get_xdata()) for line in dots] == scores
    bars = figure.axes[0].lines[1:4:2]
    assert [list(line.get_xdata()) for line in bars] == [pytest.approx([np.mean(x)] * 2) for x in scores]


def test_efficiency_draws_what_stats_says(tmp_path):
    write(tmp_path, "bc", spread=0.3)
    frame = load.read(tmp_path)
    table = stats.sample_efficiency(frame, "return", load.references(frame))
    [panel] = curves.sample_efficiency(frame, "return").axes
    band = panel.collections[0].get_paths()[0].get_extents()
    assert panel.lines[0].get_ydata() == pytest.approx(table.value)
    assert (band.y0, band.y1) == pytest.approx((table.low.min(), table.high.max()))
    assert table.low.iloc[-1] < table.value.iloc[-1] < table.high.iloc[-1]


def test_improvement_and_aggregate_draw_what_stats_says(tmp_path):
    for algo, skill in (("bc", 0.4), ("inspo", 0.9), ("omiga", 0.6)):
        write(tmp_path, algo, "mne-balanced", skill=skill, spread=0.3)
    frame = load.read(tmp_path)
    scores = stats.final_scores(frame, "return", "last")
    for figure, table in (
        (aggregates.improvement(frame, "return", "inspo"), stats.improvements(scores, "inspo")),
        (aggregates.iqm_intervals(frame, "return"), stats.normalized_iqms(scores, load.references(frame))),
    ):
        [panel] = figure.axes
        table = table.set_index("algo").loc[style.order(table.algo)[::-1]]
        assert [line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 1] == pytest.approx(table.value.tolist())
        assert [bar.get_x() for bar in panel.patches] == pytest.approx(table.low.tolist())
        assert [bar.get_x() + bar.get_width() for bar in panel.patches] == pytest.approx(table.high.tolist())


def test_quality_orders_qualities_and_is_left_out_where_there_are_none(tmp_path):
    write(tmp_path, "bc", "xor-ab")
    assert aggregates.quality(load.read(tmp_path), "return") is None
    for task in ("3m-expert", "3m-random", "8m-expert", "3m-medium"):
        write(tmp_path / "smac", "bc", task, backend="smac-sim-1")
    frame = load.read(tmp_path / "smac")
    [panel] = aggregates.quality(frame, "return").axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["random\n1 task", "medium\n1 task", "expert\n2 tasks"]
    dots = [float(line.get_ydata()[0]) for line in panel.lines if line.get_marker() == "o"]
    scores = stats.final_scores(frame, "return", "last")
    means = [np.mean([stats.normalize(scores["bc", f"{maps}m-expert"].mean(), (1.0, 20.0)) for maps in (3, 8)])]
    assert dots[-1:] == pytest.approx(means)


def test_quality_weighs_tasks_alike_and_leaves_easy_ones_out(tmp_path):
    write(tmp_path, "bc", "8m-medium", seeds=range(12), skill=0.1, backend="smac-sim-1")
    write(tmp_path, "bc", "2s3z-medium", seeds=[0, 1], skill=0.9, backend="smac-sim-1")
    [panel] = aggregates.quality(load.read(tmp_path), "return").axes
    [bar] = panel.patches
    [dot] = [float(line.get_ydata()[0]) for line in panel.lines if line.get_marker() == "o"]
    assert bar.get_y() < dot < bar.get_y() + bar.get_height()
    write(tmp_path, "bc", "3m-medium", seeds=[0, 1], skill=0.5, backend="smac-sim-1")
    shown = list(figures.all_figures(load.read(tmp_path), ["return"], "bc", draft=True))
    captions = {name.partition("-")[0]: caption for name, caption, _ in shown}
    assert {kind for kind, caption in captions.items() if "leave out" in caption} == set(captions) - {"curves", "scores"}
    [panel] = next(figure for name, _, figure in shown if name.startswith("quality")).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["medium\n2 tasks"]


def test_a_metric_that_no_run_has_makes_no_figure(tmp_path):
    """Nothing is won in games."""
    write(tmp_path, "bc")
    assert figures.main(["--out", str(tmp_path), "--metric", "return", "win_rate"]) == 0
    assert not list(Path(tmp_path, "figures").glob("*win_rate*"))
    assert list(Path(tmp_path, "figures").glob("curves-games-return.png"))
    captions = Path(tmp_path, "figures", "figures.tex").read_text()
    assert "{curves-games-return}" in captions
    assert figures.main(["--out", str(tmp_path), "--metric", "win_rate"]) == 0
    assert Path(tmp_path, "figures", "figures.tex").read_text() == captions  # of the figures that are still there


def test_captions_describe_the_runs_that_are_drawn(tmp_path):
    write(tmp_path, "bc", seeds=range(5))
    write(tmp_path, "inspo", seeds=range(5))
    write(tmp_path, "inspo", seeds=range(3), overrides={"beta": 0.0}, key="o")
    write(tmp_path, "oryx", seeds=range(5), overrides={"beta": 0.0}, key="o")
    captions = {name: caption for name, caption, _ in figures.all_figures(load.read(tmp_path), ["return"], "inspo")}
    assert "(n = 5)" in captions["curves-games-return"]
    assert "autoregressive" not in captions["curves-games-return"]
    assert "autoregressive" in captions["ablation-games-oryx-return"]
    assert "(n = 3 to 5 seeds)" in captions["ablation-games-inspo-return"]


def test_an_ablation_has_panels_of_the_tasks_of_its_own_variants_alone(tmp_path):
    for algo, task in (("inspo", "xor-ab"), ("bc", "xor-all")):
        write(tmp_path, algo, "xor-ab")
        write(tmp_path, algo, "xor-all")
        write(tmp_path, algo, task, overrides={"beta": 0.0}, key="o")
    panels = aggregates.ablation(load.read(tmp_path), "return", "inspo").axes
    assert [panel.get_title() for panel in panels] == ["xor-ab"]


def test_a_preset_is_named_in_every_figure_and_caption(tmp_path):
    write(tmp_path, "bc", preset="quick")
    write(tmp_path, "inspo", preset="quick")
    for _, caption, figure in figures.all_figures(load.read(tmp_path), ["return"], "inspo"):
        assert caption.endswith("Preset quick: a fifth of the updates; not the benchmark's full budget.")
        assert figure.get_supxlabel().endswith("preset quick: a fifth of the updates")


def test_the_chosen_method_must_be_among_the_runs(tmp_path, capsys):
    write(tmp_path, "bc")
    for command in (figures, report):
        assert command.main(["--out", str(tmp_path), "--of", "bcc"]) == 2
        assert "did you mean bc?" in capsys.readouterr().err
    assert figures.main(["--out", str(tmp_path), "--metric", "return"]) == 0  # one method alone is compared with no other


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_figures_and_captions_compile(tmp_path):
    write(tmp_path, "bc", "xor-ab_ba")
    write(tmp_path, "inspo", "xor-ab_ba")
    assert figures.main(["--out", str(tmp_path), "--metric", "return_sampled"]) == 0
    text = r"\documentclass{article}\usepackage{graphicx}\graphicspath{{figures/}}\begin{document}\input{figures/figures}\end{document}"
    Path(tmp_path, "paper.tex").write_text(text)
    done = subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_an_algorithm_without_an_entry_always_looks_the_same():
    looks = [style.algorithm(f"new{k}") for k in range(20)]
    assert looks[:2] == [style.Look("NEW0", "#117733", "h"), style.Look("NEW1", "#117733", ">")]
    assert len({look[1:] for look in looks}) > 5
    assert not {look[1] for look in looks} & {look[1] for look in style.ALGORITHMS.values()}


def test_order_is_that_of_the_style_then_natural():
    assert style.order(["10m-x", "3m-x", "3m-x", "inspo", "bc"]) == ["bc", "inspo", "3m-x", "10m-x"]
    assert style.scenario("5m_vs_6m-expert") == "5m_vs_6m"


@pytest.mark.parametrize("names", [["a"] * 4, ["a long name of a method"] * 4, ["a"] * 13])
def test_a_legend_fits_its_figure(names):
    figure = Figure(figsize=(style.NARROW, 2), layout="constrained")
    curves.legend(figure, [Line2D([], [], label=name) for name in names])
    [drawn] = figure.legends
    assert drawn.get_window_extent().width <= figure.bbox.width
    assert len(drawn.get_texts()) == len(names)
