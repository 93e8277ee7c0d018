"""Draws an episode of the StarCraft simulator: python -m tools.render_smac 3m --policy random --out episode.gif"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_propagation

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.env import checked_seeds
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.datasets.behavior.policy import Policy
from inspo_benchmark.datasets.behavior.smac_policy import act, load, uniform
from inspo_benchmark.envs.smac.maps import MAPS, NO_ATTACK, SCENARIOS, Map, Scenario, find_map, ground
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, Battles, X, Y
from inspo_benchmark.envs.smac.starcraft2env import Heuristic
from inspo_benchmark.envs.smac.units import LOOPS_PER_STEP, Unit
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.tools.rendering import Actor, find_actor, sampled

WIDTH, HEIGHT = 800, 720  # largest size of the map, pixels
BAR_HEIGHT = 34  # of the lines of text above and below the map, pixels
SUPERSAMPLING = 3  # images are drawn this many times larger, for smooth edges
STEP_MS, LAST_MS = 120, 1800  # duration of a step (0.36 s in the game) and of the last one, milliseconds
NUM_COLORS = 64  # of a .gif
SUFFIXES = (".gif", ".mp4", ".png")

Color = tuple[int, ...]
BACKGROUND, GROUND, EDGE, INK, GRAY = (226, 224, 219), (250, 249, 246), (168, 163, 154), (30, 30, 30), (110, 108, 104)
BLUE, ORANGE = (0, 114, 178), (230, 159, 0)  # Okabe and Ito's palette, which is safe for color-blind readers and in grayscale
GREEN, SKY = (0, 158, 115), (86, 180, 233)  # health and healing, shield
LETTERS = {
    "marine": "M", "marauder": "A", "medivac": "+", "stalker": "S", "zealot": "Z", "zergling": "z", "hydralisk": "H", "baneling": "B",
    "colossus": "C", "spinecrawler": "Y",
}  # fmt: skip
EXAMPLES = """the picture:
  blue discs: agents; orange discs: enemies; as large as the game's units, with a letter for the type
  bars: health (green) and shield (light blue); a cross marks where a unit died
  thick lines: attacks and healing during the step, from the unit to its target; thin lines: other targets

examples:
  python -m tools.render_smac 3s_vs_5z --policy expert --out kiting.gif
  python -m tools.render_smac 6h_vs_8z --policy heuristic --seed 3 --out focus.mp4
  python -m tools.render_smac corridor --policy random --step 12 --out neck.png
  python -m tools.render_smac zerg_10_vs_11 --seed 5 --out surrounded.gif
  python -m tools.render_smac 3m --policy my/checkpoint.npz
  python -m tools.render_smac 3m --policy results/runs/inspo/3m-medium-0123456789ab.policies:4   seed 4 of the run"""


class Snapshot(NamedTuple):
    """The state that one image shows."""

    frame: np.ndarray  # [U, 6]
    aim: np.ndarray  # [U] index of the unit that each unit attacks or heals; -1: none
    fired: np.ndarray  # [U] bool: attacked or healed in the last step
    burst: np.ndarray  # [U] bool: exploded in the last step
    step: int
    total: float  # return so far
    end: str  # outcome of the episode; "" before its end


class Canvas:
    """Draws the snapshots of one episode as images of the same size."""

    def __init__(self, map: Map | Scenario, units: Sequence[Unit], snapshots: Sequence[Snapshot], title: str):
        """`title`: the policy and the seed."""
        self.map, self.units, self.title = map, units, title
        cells = np.argwhere(_reachable(ground(map.terrain), snapshots[0].frame))
        places = np.concatenate(
            [cells, cells + 1, *(snapshot.frame[:, [X, Y]] for snapshot in snapshots)]
        )  # flying units may leave the walkable cells
        (self.left, low), (right, self.top) = np.floor(places.min(0)) - 1, np.ceil(places.max(0)) + 1
        self.zoom = min(WIDTH / (right - self.left), HEIGHT / (self.top - low)) * SUPERSAMPLING  # pixels per cell
        w, h = (int(x * self.zoom / SUPERSAMPLING) // 2 * 2 for x in (right - self.left, self.top - low))  # even numbers, as .mp4 requires
        self.size = w * SUPERSAMPLING, (h + 2 * BAR_HEIGHT) * SUPERSAMPLING
        self.ground = self._draw_ground()

    def draw(self, snapshot: Snapshot) -> Image.Image:
        image = self.ground.copy()
        pen = ImageDraw.Draw(image)
        n, alive = self.map.n, snapshot.frame[:, HEALTH] > 0
        for i in np.flatnonzero(~alive):
            self._draw_dead(pen, snapshot, i)
        for i in np.flatnonzero(alive & (snapshot.aim >= 0) & ~snapshot.fired):
            self._draw_target(pen, snapshot, i)
        for i in np.argsort([unit.air for unit in self.units], kind="stable"):  # flying units last
            if alive[i]:
                self._draw_unit(pen, snapshot, i)
        for i in np.flatnonzero(snapshot.fired & (snapshot.aim >= 0)):
            self._draw_target(pen, snapshot, i)

        w, h = self.size
        pad = 10 * SUPERSAMPLING
        pen.text((pad, BAR_HEIGHT * SUPERSAMPLING / 2), self.map.name, INK, _font(18), "lm")
        pen.text((w / 2, BAR_HEIGHT * SUPERSAMPLING / 2), self.title, GRAY, _font(14), "mm")
        score = f"step {snapshot.step} of {self.map.limit}    return {snapshot.total:.2f}" + f"    {snapshot.end}" * bool(snapshot.end)
        pen.text((w - pad, BAR_HEIGHT * SUPERSAMPLING / 2), score, INK, _font(14), "rm")
        at = pad
        for team, color, member in ((range(n), BLUE, "agents"), (range(n, len(self.units)), ORANGE, "enemies")):
            at = self._draw_legend(pen, at, h - BAR_HEIGHT * SUPERSAMPLING / 2, color, f"{int(alive[team].sum())} {member}", team)
        return image.reduce(SUPERSAMPLING)

    def _draw_legend(self, pen, x: float, y: float, color, text: str, team: range) -> float:
        """Draw a team's legend at x. Returns the x of the next one."""
        r = 6 * SUPERSAMPLING
        pen.ellipse((x, y - r, x + 2 * r, y + r), color)
        names = dict.fromkeys(self.units[i].name for i in team)
        text += ": " + ", ".join(f"{LETTERS[name]} {name}" for name in names)
        pen.text((x + 3 * r, y), text, INK, _font(14), "lm")
        return x + 3 * r + pen.textlength(text, _font(14)) + 24 * SUPERSAMPLING

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.left) * self.zoom, (self.top - y) * self.zoom + BAR_HEIGHT * SUPERSAMPLING

    def _circle(self, place: np.ndarray, radius: float) -> tuple[float, float, float, float]:
        (x, y), r = self._at(place[X], place[Y]), radius * self.zoom
        return x - r, y - r, x + r, y + r

    def _draw_ground(self) -> Image.Image:
        image = Image.new("RGB", self.size, BACKGROUND)
        pen, free, wide = ImageDraw.Draw(image), np.pad(ground(self.map.terrain), 1), SUPERSAMPLING
        for x, y in np.argwhere(free) - 1:
            (x0, y0), (x1, y1) = self._at(x, y + 1), self._at(x + 1, y)
            pen.rectangle((x0, y0, x1, y1), GROUND)
        for x, y in np.argwhere(free) - 1:
            (x0, y0), (x1, y1) = self._at(x, y + 1), self._at(x + 1, y)
            for dx, dy, line in ((-1, 0, (x0, y0, x0, y1)), (1, 0, (x1, y0, x1, y1)), (0, 1, (x0, y0, x1, y0)), (0, -1, (x0, y1, x1, y1))):
                if not free[x + 1 + dx, y + 1 + dy]:
                    pen.line(line, EDGE, wide)
        w, h = self.size
        for y in (0, h - BAR_HEIGHT * SUPERSAMPLING):
            pen.rectangle((0, y, w, y + BAR_HEIGHT * SUPERSAMPLING), (255, 255, 255))
        return image

    def _color(self, i: int):
        return BLUE if i < self.map.n else ORANGE

    def _draw_dead(self, pen, snapshot: Snapshot, i: int) -> None:
        faded = _blend(self._color(i), GROUND, 0.65)
        place, unit = snapshot.frame[i], self.units[i]
        if snapshot.burst[i]:
            pen.ellipse(self._circle(place, unit.splash), _blend(self._color(i), GROUND, 0.75), self._color(i), SUPERSAMPLING)
        x0, y0, x1, y1 = self._circle(place, unit.radius * 0.5)
        pen.line((x0, y0, x1, y1), faded, 2 * SUPERSAMPLING)
        pen.line((x0, y1, x1, y0), faded, 2 * SUPERSAMPLING)

    def _draw_target(self, pen, snapshot: Snapshot, i: int) -> None:
        """A line from inside one disc to inside the other, so that it is visible between touching units."""
        j = snapshot.aim[i]
        a, b = snapshot.frame[i, [X, Y]], snapshot.frame[j, [X, Y]]
        u = (b - a) / max(np.hypot(*(b - a)), 1e-9)
        (x0, y0), (x1, y1) = self._at(*(a + 0.7 * self.units[i].radius * u)), self._at(*(b - 0.7 * self.units[j].radius * u))
        color = GREEN if self.units[i].heal else self._color(i)
        if not snapshot.fired[i]:
            pen.line((x0, y0, x1, y1), _blend(color, GROUND, 0.6), SUPERSAMPLING)
            return
        for shade, wide in (
            ((255, 255, 255), 2.5 * SUPERSAMPLING),
            (color, 1.5 * SUPERSAMPLING),
        ):  # with a white border, visible on any background
            pen.line((x0, y0, x1, y1), shade, round(2 * wide))
            pen.ellipse((x1 - 2 * wide, y1 - 2 * wide, x1 + 2 * wide, y1 + 2 * wide), shade)

    def _draw_unit(self, pen, snapshot: Snapshot, i: int) -> None:
        place, unit, color = snapshot.frame[i], self.units[i], self._color(i)
        x0, y0, x1, y1 = self._circle(place, unit.radius)
        pen.ellipse((x0, y0, x1, y1), color, _blend(color, INK, 0.45), round(1.5 * SUPERSAMPLING))
        letter = _font(round(1.2 * unit.radius * self.zoom / SUPERSAMPLING))
        pen.text(
            ((x0 + x1) / 2, (y0 + y1) / 2 + 1.5 * SUPERSAMPLING),
            LETTERS[unit.name],
            (255, 255, 255) if i < self.map.n else INK,
            letter,
            "mm",
        )
        bars = [(GREEN, place[HEALTH] / unit.health)] + ([(SKY, place[SHIELD] / unit.shield)] if unit.shield else [])
        for k, (bar, share) in enumerate(bars):  # across the disc's upper edge, to leave neighbors visible
            thick = round(max(0.13 * self.zoom, 3 * SUPERSAMPLING))
            y = y0 + thick - k * (thick + SUPERSAMPLING)
            pen.rectangle((x0 - SUPERSAMPLING, y - thick - SUPERSAMPLING, x1 + SUPERSAMPLING, y + SUPERSAMPLING - 1), INK)
            pen.rectangle((x0, y - thick, x1, y - 1), (255, 255, 255))
            if share > 0:
                pen.rectangle((x0, y - thick, x0 + max(share * (x1 - x0), SUPERSAMPLING), y - 1), bar)


def _reachable(free: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Walkable cells [x, y] bool that are connected to the units' positions."""
    here = np.zeros_like(free)
    here[tuple(frame[:, [X, Y]].astype(int).T)] = True
    return binary_propagation(here, mask=free) & free


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(pixels * SUPERSAMPLING)


def _blend(a: Color, b: Color, share: float) -> Color:
    """The mixture (1 - share) a + share b."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))


# --- the episode


def units_of(map: Map | Scenario, seed: int) -> tuple[Unit, ...]:
    """The units of the battle with this seed."""
    battles = Battles(map, 1)
    battles.spawn([seed])
    return battles.units


def actor(policy: str, map: Map | Scenario, seed: int) -> Actor:
    """`heuristic`, `random`, or any policy of `rendering.find_actor`. UserError: there is no such policy."""
    heuristic = Heuristic(map, units=units_of(map, seed))

    def sample(net: Policy) -> Actor:
        return sampled(partial(act, net), seed, map.n)

    builtin = {
        "heuristic": lambda env, observation, step: np.array([heuristic(env.battles.frame[0], observation.avail[0])]),
        "random": sample(uniform(map)),
    }
    return find_actor(policy, map.name, builtin, lambda path: sample(load(path, map)))


def record(map: Map | Scenario, act: Actor, seed: int) -> list[Snapshot]:
    """One episode: snapshots at its start and after every step."""
    env = Smac(map.name, 1)
    observation, total, end = env.reset([seed]), 0.0, ""
    units, frames = env.battles.units, env.battles.frame
    heals, explodes = np.array([unit.heal > 0 for unit in units]), np.array([unit.splash > 0 for unit in units])
    no_target, none = np.full(len(units), -1), np.zeros(len(units), bool)
    snapshots = [Snapshot(frames[0].copy(), no_target, none, none, 0, total, end)]
    while not end:
        actions, before = act(env, observation, len(snapshots) - 1), snapshots[-1]
        observation, reward, terminated, truncated, info = env.step_unchecked(actions, actions)
        frame, aim, ordered = frames[0].copy(), env.battles.target[0].copy(), before.aim.copy()
        ordered[: map.n] = np.where(actions[0] >= NO_ATTACK, actions[0] - NO_ATTACK + np.where(heals[: map.n], 0, map.n), -1)
        fired = frame[:, COOLDOWN] > np.maximum(before.frame[:, COOLDOWN] - LOOPS_PER_STEP, 0)
        fired |= heals & (frame[:, ENERGY] < before.frame[:, ENERGY])
        lost = frame[:, [HEALTH, SHIELD]].sum(1) < before.frame[:, [HEALTH, SHIELD]].sum(1)
        # A unit that killed its target has another one by now, or none.
        killed = fired & (ordered >= 0) & ((aim < 0) | (lost[ordered] & ~lost[aim]))
        aim = np.where(killed, ordered, aim)
        burst = explodes & (before.frame[:, HEALTH] > 0) & (frame[:, HEALTH] == 0)
        total += float(reward[0])
        end = "won" if info["won"][0] else "lost" if terminated[0] else "time is up" if truncated[0] else ""
        snapshots.append(Snapshot(frame, aim, fired, burst, len(snapshots), total, end))
    return snapshots


# --- the files


def _gif(canvas: Canvas, snapshots: Sequence[Snapshot], path: Path) -> None:
    """All images have one palette, which is made from the first, the middle and the last one."""
    some = [canvas.draw(snapshots[k]) for k in (0, len(snapshots) // 2, -1)]
    sheet = Image.new("RGB", (some[0].width, 3 * some[0].height))
    for k, picture in enumerate(some):
        sheet.paste(picture, (0, k * picture.height))
    palette = sheet.quantize(NUM_COLORS)
    first, *others = (canvas.draw(snapshot).quantize(palette=palette, dither=Image.Dither.NONE) for snapshot in snapshots)
    durations = [STEP_MS] * len(others) + [LAST_MS]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0)


def _mp4(canvas: Canvas, snapshots: Sequence[Snapshot], path: Path) -> None:
    shape = f"{canvas.size[0] // SUPERSAMPLING}x{canvas.size[1] // SUPERSAMPLING}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", shape, "-r", f"1000/{STEP_MS}", "-i", "-"]
    command = ["ffmpeg", "-y", "-v", "error", *source, "-pix_fmt", "yuv420p", str(path)]
    with tempfile.TemporaryFile() as errors:
        with suppress(BrokenPipeError), subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors) as ffmpeg:
            for snapshot in [*snapshots, *[snapshots[-1]] * (LAST_MS // STEP_MS)]:
                ffmpeg.stdin.write(canvas.draw(snapshot).tobytes())
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
    if ffmpeg.returncode:
        raise UserError(f"ffmpeg failed ({lines[0] or f'exit code {ffmpeg.returncode}'}); a .gif needs no ffmpeg")


def middle_of_fight(snapshots: Sequence[Snapshot]) -> int:
    """The median step of all attacks."""
    steps = [snapshot.step for snapshot in snapshots for _ in range(snapshot.fired.sum())]
    return int(np.median(steps)) if steps else len(snapshots) // 2


# --- the command line


def parser() -> argparse.ArgumentParser:
    cli = CommandLine(
        prog="python -m tools.render_smac",
        description="Draw an episode of the StarCraft simulator.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_argument("map", metavar="MAP", help=", ".join(MAPS | SCENARIOS))
    cli.add_argument(
        "--policy",
        default="heuristic",
        metavar="NAME",
        help="heuristic (SMAC's own, the default), random, a shipped policy (expert, medium, ...), a behavior policy's file (.npz), or a "
        "run's saved policies (.policies for the first seed, .policies:4 for seed 4)",
    )
    cli.add_argument("--seed", type=int, default=0, metavar="K", help="seed of the episode (default: 0)")
    cli.add_argument(
        "--out", type=Path, default=Path("episode.gif"), metavar="FILE", help="output: .gif, .mp4 or .png (default: episode.gif)"
    )
    cli.add_argument("--step", type=int, metavar="K", help="step that a .png shows (default: the middle of the fight)")
    return cli


def render(args: argparse.Namespace) -> str:
    """Draw the episode. Returns a line about it. UserError: a wrong option, or a file that cannot be written."""
    map, out, kind = find_map(args.map), args.out, args.out.suffix.lower()
    if kind not in SUFFIXES:
        raise UserError(f"--out {out}: the file's name has to end with {', '.join(SUFFIXES)}")
    if kind == ".mp4" and not shutil.which("ffmpeg"):
        raise UserError(f"--out {out}: an .mp4 needs the program ffmpeg, which is not on the PATH; install it, or take .gif")
    if kind != ".png" and args.step is not None:
        raise UserError(f"--step {args.step}: only a .png shows one step, {out} shows them all")
    checked_seeds([args.seed], 1)
    act = actor(args.policy, map, args.seed)
    with atomic_write(out) as part:  # before the episode, so that an unwritable folder is an immediate error
        snapshots = record(map, act, args.seed)
        canvas = Canvas(map, units_of(map, args.seed), snapshots, f"{Path(args.policy).name}, seed {args.seed}")
        if kind == ".png":
            step = middle_of_fight(snapshots) if args.step is None else args.step
            if not 0 <= step < len(snapshots):
                raise UserError(f"--step {step}: this episode has the steps 0 .. {len(snapshots) - 1}")
            canvas.draw(snapshots[step]).save(part, optimize=True)
        else:
            (_gif if kind == ".gif" else _mp4)(canvas, snapshots, part)
    last = snapshots[-1]
    return f"{out}: {map.name}, {args.policy}, seed {args.seed}: {last.end} after {last.step} steps, return {last.total:.2f}"


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return outcome(lambda: print(render(args)))


if __name__ == "__main__":
    sys.exit(main())
