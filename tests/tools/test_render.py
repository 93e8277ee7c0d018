"""Pictures show what happened, and mistakes on the command line are one line."""

import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from inspo_benchmark.datasets import behavior
from inspo_benchmark.datasets.behavior.policy import save
from inspo_benchmark.datasets.behavior.smac_policy import uniform
from inspo_benchmark.envs.smac.maps import MAPS, SCENARIOS, find_map, ground
from inspo_benchmark.envs.smac.simulator import HEALTH, SHIELD, Battles
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.tools import render_smac
from inspo_benchmark.tools.render_smac import (
    BACKGROUND,
    BAR_HEIGHT,
    BLUE,
    GREEN,
    GROUND,
    LAST_MS,
    ORANGE,
    SKY,
    STEP_MS,
    SUPERSAMPLING,
    Canvas,
    Snapshot,
    actor,
    main,
    middle_of_fight,
    record,
)


def snapshot(map, **changes) -> Snapshot:
    frame = np.zeros((map.n + map.m, 6))
    frame[:, 0], frame[:, 1] = 4 + 3 * np.arange(len(frame)) % 24, 10 + 3 * (np.arange(len(frame)) // 8)
    frame[:, HEALTH], frame[:, SHIELD] = np.array([(unit.health, unit.shield) for unit in map.units()]).T
    none = np.zeros(len(frame), bool)
    return Snapshot(frame, np.full(len(frame), -1), none, none, 7, 3.25, "")._replace(**changes)


def paint(map, what: Snapshot) -> tuple[Canvas, np.ndarray]:
    canvas = Canvas(map, map.units(), [what], "by hand")
    return canvas, np.asarray(canvas.draw(what)).astype(int)


def near(pixels: np.ndarray, color) -> np.ndarray:
    """Pixels [..., 3] of about this color: [...] bool."""
    return np.abs(pixels - color).max(-1) < 12


def at(canvas: Canvas, x: float, y: float) -> tuple[int, int]:
    """Row and column."""
    column, row = canvas._at(x, y)
    return int(row / SUPERSAMPLING), int(column / SUPERSAMPLING)


def test_the_ground_is_the_maps():
    map = find_map("corridor")
    what = snapshot(map)
    what.frame[:, HEALTH] = 0
    what.frame[:, :2] = 19, 19
    canvas, pixels = paint(map, what)
    free, shown = ground("corridor"), 0
    for x, y in np.ndindex(free.shape):
        row, column = at(canvas, x + 0.5, y + 0.5)
        if BAR_HEIGHT < row < pixels.shape[0] - BAR_HEIGHT and 0 < column < pixels.shape[1] and (x, y) != (18, 18):
            assert near(pixels[row, column], GROUND if free[x, y] else BACKGROUND), (x, y)
            shown += free[x, y]
    assert shown == free.sum() - free[18, 18]


@pytest.mark.parametrize(("name", "i"), [("3m", 0), ("2s3z", 6), ("2c_vs_64zg", 1), ("MMM", 9)])
def test_discs_are_as_large_as_the_units(name, i):
    map = find_map(name)
    what = snapshot(map)
    what.frame[:, HEALTH] = 0
    what.frame[i, HEALTH], what.frame[i, :2] = 1, (16, 15)
    what.frame[np.arange(len(what.frame)) != i, :2] = 5, 10
    canvas, pixels = paint(map, what)
    radius, color = map.units()[i].radius, BLUE if i < map.n else ORANGE
    for angle in np.radians([-150, -90, -30]):  # below the bars
        inside, outside = (at(canvas, 16 + k * radius * np.cos(angle), 15 + k * radius * np.sin(angle)) for k in (0.8, 1.2))
        assert near(pixels[inside], color)
        assert near(pixels[outside], GROUND)


def test_bars_are_as_long_as_health_and_shield():
    map = find_map("2s3z")
    full, hurt = snapshot(map), snapshot(map)
    for what in (full, hurt):
        what.frame[:, HEALTH] *= np.arange(10) == 0
    hurt.frame[0, HEALTH] *= 0.25
    hurt.frame[0, SHIELD] *= 0.5
    (_, a), (_, b) = paint(map, full), paint(map, hurt)
    assert near(b, GREEN).sum() / near(a, GREEN).sum() == pytest.approx(0.25, abs=0.06)
    assert near(b, SKY).sum() / near(a, SKY).sum() == pytest.approx(0.5, abs=0.06)


def test_the_dead_fade():
    map = find_map("3m")
    alive, dead = snapshot(map), snapshot(map)
    dead.frame[:3, HEALTH] = 0
    (_, a), (canvas, b) = paint(map, alive), paint(map, dead)
    rows = slice(BAR_HEIGHT, -BAR_HEIGHT)
    assert near(a[rows], BLUE).sum() > 300
    assert near(b[rows], BLUE).sum() == 0
    assert not near(b[at(canvas, *dead.frame[0, :2])], GROUND)  # the cross
    assert near(b[rows], ORANGE).sum() == near(a[rows], ORANGE).sum()


def test_lines_join_attackers_and_targets():
    map = find_map("MMM")  # agents: 2 marauders, 7 marines, 1 medivac
    still, aim, fired = snapshot(map), np.full(20, -1), np.zeros(20, bool)
    still.frame[:, :2] = np.stack([4 + 2.5 * (np.arange(20) % 10), np.where(np.arange(20) < 10, 10, 20)], 1)
    aim[[0, 9, 13]] = 12, 3, 5
    (_, before), (canvas, thin), (_, thick) = (paint(map, still._replace(aim=aim, fired=f)) for f in (fired, fired, np.arange(20) != 13))
    (_, none) = paint(map, still)
    for i, j, color in ((0, 12, BLUE), (9, 3, GREEN), (13, 5, ORANGE)):
        spot = at(canvas, *(still.frame[i, :2] * 0.6 + still.frame[j, :2] * 0.4))
        assert near(none[spot], GROUND)
        assert near(thick[spot], color) == (i != 13)
        assert not near(thin[spot], color)
    changed = (thin != none).any(-1).sum()
    assert 0 < changed < (thick != none).any(-1).sum()
    assert (before == thin).all()


def test_explosions_reach_as_far_as_the_splash():
    map = find_map("so_many_baneling")
    what = snapshot(map)
    what.frame[:, HEALTH] = 0
    what.frame[:, :2] = 12, 12
    burst = np.arange(len(what.frame)) == 20
    canvas, pixels = paint(map, what._replace(burst=burst))
    assert not near(pixels[at(canvas, 12 + 2.0, 12)], GROUND)
    assert near(pixels[at(canvas, 12 + 2.4, 12)], GROUND)


# --- episodes


@pytest.mark.parametrize("name", ["3m", "MMM"])
def test_record_returns_the_episode(name):
    map = find_map(name)
    snapshots = record(map, actor("random", map, 5), 5)
    env, act = Smac(name, 1), actor("random", map, 5)
    observation, total = env.reset([5]), 0.0
    for t, snapshot in enumerate(snapshots[1:]):
        observation, reward, terminated, _, info = env.step(act(env, observation, t))
        total += reward[0]
        np.testing.assert_array_equal(snapshot.frame, env.battles.frame[0])
        assert (snapshot.step, snapshot.total) == (t + 1, total)
    assert not env.live.any()
    end = "won" if info["won"][0] else "lost" if terminated[0] else "time is up"
    assert [x.end for x in snapshots] == [""] * (len(snapshots) - 1) + [end]


def test_hurt_units_had_been_shot_at():
    """On 3m, where shots take effect at once. About 4 in 100 are not shown: the last ones of marines that died in the same step."""
    map, hurt, explained = find_map("3m"), 0, 0
    for seed in range(8):
        for before, after in pairwise(record(map, actor("heuristic", map, seed), seed)):
            targets = after.aim[after.fired]
            assert ((targets < 3) == (np.flatnonzero(after.fired) >= 3)).all()  # the other side's
            lost = np.flatnonzero(before.frame[:, HEALTH] > after.frame[:, HEALTH])
            hurt, explained = hurt + len(lost), explained + len(np.intersect1d(lost, targets))
    assert hurt > 100
    assert 0.9 < explained / hurt <= 1


def test_the_heuristic_attacks_from_afar_and_is_smacs():
    map = find_map("8m")
    battles = Battles(map, 1)
    battles.spawn([0])
    snapshots = record(map, actor("heuristic", map, 0), 0)
    assert (snapshots[1].aim[: map.n] >= map.n).all()  # 14 cells away, which no available action allows
    assert (snapshots[1].frame[: map.n, 0] > battles.frame[0, : map.n, 0] + 1).all()


def test_the_middle_of_the_fight():
    map = find_map("3m")
    snapshots = [snapshot(map, step=k, fired=np.full(6, k in (3, 8, 9))) for k in range(20)]
    assert middle_of_fight(snapshots) == 8
    assert middle_of_fight([snapshot(map, step=k) for k in range(20)]) == 10


# --- the command line


def run(tmp_path, *words) -> Path:
    out = tmp_path / words[-1]
    assert main([*words[:-1], "--out", str(out)]) == 0
    return out


def test_a_gif_shows_every_step(tmp_path, capsys):
    path = run(tmp_path, "3m", "--policy", "random", "--seed", "3", "a.gif")
    steps = len(record(find_map("3m"), actor("random", find_map("3m"), 3), 3)) - 1
    assert f"3m, random, seed 3: lost after {steps} steps" in capsys.readouterr().out
    with Image.open(path) as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
        assert 640 <= image.width <= 800
        sizes = image.size
    assert durations == [STEP_MS] * steps + [LAST_MS]
    assert path.stat().st_size < 2_000_000
    assert all(x % 2 == 0 for x in sizes)
    again = run(tmp_path, "3m", "--policy", "random", "--seed", "3", "b.gif")
    assert again.read_bytes() == path.read_bytes()


def test_a_png_shows_one_step(tmp_path):
    map = find_map("2s3z")
    snapshots = record(map, actor("heuristic", map, 0), 0)
    canvas = Canvas(map, map.units(), snapshots, "heuristic, seed 0")
    for words, k in ((("--step", "4"), 4), ((), middle_of_fight(snapshots))):
        with Image.open(run(tmp_path, "2s3z", *words, f"{k}.png")) as image:
            assert (np.asarray(image) == np.asarray(canvas.draw(snapshots[k]))).all()


def test_a_scenario_shows_the_battle_of_the_seed(tmp_path):
    map = find_map("zerg_5_vs_5")
    images = []
    for seed in (1, 2):
        snapshots = record(map, actor("heuristic", map, seed), seed)
        canvas = Canvas(map, render_smac.units_of(map, seed), snapshots, f"heuristic, seed {seed}")
        with Image.open(run(tmp_path, "zerg_5_vs_5", "--seed", str(seed), "--step", "0", f"{seed}.png")) as image:
            images.append(np.asarray(image))
        assert (images[-1] == np.asarray(canvas.draw(snapshots[0]))).all()
        assert snapshots[0].frame.shape == (10, 6)
        assert any(snapshot.fired.any() for snapshot in snapshots)
    assert images[0].shape != images[1].shape or (images[0] != images[1]).any()


def fake_ffmpeg(folder: Path, script: str, monkeypatch) -> None:
    code = f"import sys, pathlib\n{script}"
    (folder / "ffmpeg").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_an_mp4_is_ffmpegs(tmp_path, monkeypatch, capsys):
    fake_ffmpeg(tmp_path, "pathlib.Path(sys.argv[-1]).write_bytes(' '.join(sys.argv).encode() + sys.stdin.buffer.read())", monkeypatch)
    content = run(tmp_path, "3m", "--policy", "random", "a.mp4").read_bytes()
    words = content[: content.index(b".mp4") + 4].decode().split()
    w, h = map(int, words[words.index("-s") + 1].split("x"))
    steps = len(record(find_map("3m"), actor("random", find_map("3m"), 0), 0)) - 1
    assert w % 2 == h % 2 == 0
    assert len(content) - content.index(b".mp4") - 4 == (steps + 1 + LAST_MS // STEP_MS) * w * h * 3

    fake_ffmpeg(tmp_path, "sys.exit('no encoder')", monkeypatch)
    assert main(["3m", "--policy", "random", "--out", str(tmp_path / "b.mp4")]) == 2
    assert "ffmpeg failed (no encoder); a .gif needs no ffmpeg" in capsys.readouterr().err
    assert sorted(x.name for x in tmp_path.iterdir()) == ["a.mp4", "ffmpeg"]


def test_a_checkpoints_path_is_a_policy(tmp_path, capsys):
    save(uniform(find_map("3m")), tmp_path / "mine.npz")
    assert main(["3m", "--policy", str(tmp_path / "mine.npz"), "--out", str(tmp_path / "a.png")]) == 0
    with Image.open(run(tmp_path, "3m", "--policy", "random", "b.png")) as b, Image.open(tmp_path / "a.png") as a:
        assert (np.asarray(a)[BAR_HEIGHT:] == np.asarray(b)[BAR_HEIGHT:]).all()  # the uniform policy, under two names
    capsys.readouterr()
    assert main(["8m", "--policy", str(tmp_path / "mine.npz"), "--out", str(tmp_path / "c.png")]) == 2
    assert "'3m', not for 8m" in capsys.readouterr().err


def test_a_shipped_policy_has_a_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "3m").mkdir()
    save(uniform(find_map("3m")), tmp_path / "3m" / "expert-0.npz")
    monkeypatch.setattr(behavior, "SHIPPED", tmp_path)
    assert run(tmp_path, "3m", "--policy", "expert", "a.png").exists()
    assert main(["3m", "--policy", "exprt"]) == 2
    assert "no policy 'exprt' for 3m; did you mean expert?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["3mm"], "no SMAC map '3mm'; did you mean 3m"),
        (["3m", "--policy", "heuristics"], "no policy 'heuristics' for 3m; did you mean heuristic?"),
        (["3m", "--policy", "gone.npz"], "gone.npz: no such policy"),
        (["3m", "--out", "a.jpeg"], "--out a.jpeg: the file's name has to end with .gif, .mp4, .png"),
        (["3m", "--out", "a.mp4"], "needs the program ffmpeg, which is not on the PATH; install it, or take .gif"),
        (["3m", "--step", "3"], "--step 3: only a .png shows one step, episode.gif shows them all"),
        (["3m", "--out", "a.png", "--step", "99"], "--step 99: this episode has the steps 0 .. "),
        (["3m", "--seed", "-1"], "seed=-1: write an integer of at least 0"),
        (["3m", "--out", "nowhere/a.gif"], "check that the folder exists"),
    ],
)
def test_mistakes_are_one_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in MAPS | SCENARIOS)
    assert text.count("python -m tools.render_smac") >= 4
    assert all(glyph for glyph in render_smac.LETTERS.values())
    assert {unit.name for map in MAPS.values() for unit in map.units()} == set(render_smac.LETTERS)
    assert len(set(render_smac.LETTERS.values())) == len(render_smac.LETTERS)


def test_a_machine_that_cannot_draw_mujoco_says_so(tmp_path):
    command = [sys.executable, "-m", "inspo_benchmark.tools.render_mujoco", "hopper_3x1", "--steps", "1", "--out", str(tmp_path / "a.gif")]
    env = {name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"} | {"MUJOCO_GL": "glfw", "DISPLAY": ":999"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error: MuJoCo cannot draw (" in done.stderr
