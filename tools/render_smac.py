"""Pictures of episodes: python -m tools.render_smac 3m --policy random --out episode.gif"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.env import Observation
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.envs.smac.maps import MAPS, NO_ATTACK, Map, find, ground
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y
from inspo_benchmark.envs.smac.starcraft2env import Heuristic
from inspo_benchmark.envs.smac.units import STEP_LOOPS, Unit
from inspo_benchmark.envs.smac.vector import Smac

WIDTH, HEIGHT = 800, 720  # pixels that the ground may take
BAR = 34  # pixels of the lines of text above and below
FINE = 3  # drawn so many times larger, for smooth edges
MILLISECONDS, LAST = 120, 1800  # a step is shown this long (0.36 s in the game), the end of the episode longer
COLOURS = 64  # of a GIF
ENDINGS = (".gif", ".mp4", ".png")

Colour = tuple[int, ...]
PAPER, GROUND, EDGE, INK, QUIET = (226, 224, 219), (250, 249, 246), (168, 163, 154), (30, 30, 30), (110, 108, 104)
BLUE, ORANGE = (0, 114, 178), (230, 159, 0)  # told apart by everybody, and in grey (Okabe and Ito's palette)
GREEN, SKY = (0, 158, 115), (86, 180, 233)  # health and healing, shield
GLYPH = {
    "marine": "M", "marauder": "A", "medivac": "+", "stalker": "S", "zealot": "Z", "zergling": "z", "hydralisk": "H", "baneling": "B",
    "colossus": "C", "spinecrawler": "Y",
}  # fmt: skip
EXAMPLES = """the picture:
  blue discs are the agents, orange ones the enemies, as large as the game's units, with a letter for the type
  bars: health (green) and shield (light blue); a cross marks where a unit died
  thick lines: who fired at whom (or hit, or healed) during the step; thin lines: who is after whom

examples:
  python -m tools.render_smac 3s_vs_5z --policy expert --out kiting.gif
  python -m tools.render_smac 6h_vs_8z --policy heuristic --seed 3 --out focus.mp4
  python -m tools.render_smac corridor --policy random --step 12 --out neck.png
  python -m tools.render_smac 3m --policy my/checkpoint.npz
  python -m tools.render_smac 3m --policy results/runs/inspo/3m-medium-0123456789ab.policies:4   the run's seed 4"""


class Shot(NamedTuple):
    """What a picture shows."""

    frame: np.ndarray  # [U, 6]
    aim: np.ndarray  # [U] whom each unit attacks or heals, -1: nobody
    fired: np.ndarray  # [U] bool, in the step that led here
    burst: np.ndarray  # [U] bool, exploded in that step
    step: int
    total: float  # return so far
    end: str  # how the episode ended, if it did


class Stage:
    """Draws the shots of one episode, all of the same size."""

    def __init__(self, map: Map, units: Sequence[Unit], shots: Sequence[Shot], title: str):
        """`title`: whose episode it is."""
        self.map, self.units, self.title = map, units, title
        cells = np.argwhere(_reachable(ground(map.name), shots[0].frame))
        places = np.concatenate([cells, cells + 1, *(shot.frame[:, [X, Y]] for shot in shots)])  # flying units leave the ground
        (self.left, low), (right, self.top) = np.floor(places.min(0)) - 1, np.ceil(places.max(0)) + 1
        self.zoom = min(WIDTH / (right - self.left), HEIGHT / (self.top - low)) * FINE  # pixels of a cell
        w, h = (int(x * self.zoom / FINE) // 2 * 2 for x in (right - self.left, self.top - low))  # even, as .mp4 wants it
        self.size = w * FINE, (h + 2 * BAR) * FINE
        self.ground = self._ground()

    def draw(self, shot: Shot) -> Image.Image:
        image = self.ground.copy()
        pen = ImageDraw.Draw(image)
        n, alive = self.map.n, shot.frame[:, HEALTH] > 0
        for i in np.flatnonzero(~alive):
            self._grave(pen, shot, i)
        for i in np.flatnonzero(alive & (shot.aim >= 0) & ~shot.fired):
            self._line(pen, shot, i)
        for i in np.argsort([unit.air for unit in self.units], kind="stable"):  # flying units last
            if alive[i]:
                self._unit(pen, shot, i)
        for i in np.flatnonzero(shot.fired & (shot.aim >= 0)):
            self._line(pen, shot, i)

        w, h = self.size
        pad = 10 * FINE
        pen.text((pad, BAR * FINE / 2), self.map.name, INK, _font(18), "lm")
        pen.text((w / 2, BAR * FINE / 2), self.title, QUIET, _font(14), "mm")
        score = f"step {shot.step} of {self.map.limit}    return {shot.total:.2f}" + f"    {shot.end}" * bool(shot.end)
        pen.text((w - pad, BAR * FINE / 2), score, INK, _font(14), "rm")
        at = pad
        for team, colour, member in ((range(n), BLUE, "agents"), (range(n, len(self.units)), ORANGE, "enemies")):
            at = self._legend(pen, at, h - BAR * FINE / 2, colour, f"{int(alive[team].sum())} {member}", team)
        return image.reduce(FINE)

    def _legend(self, pen, x: float, y: float, colour, text: str, team: range) -> float:
        """Returns where the next one begins."""
        r = 6 * FINE
        pen.ellipse((x, y - r, x + 2 * r, y + r), colour)
        names = dict.fromkeys(self.units[i].name for i in team)
        text += ": " + ", ".join(f"{GLYPH[name]} {name}" for name in names)
        pen.text((x + 3 * r, y), text, INK, _font(14), "lm")
        return x + 3 * r + pen.textlength(text, _font(14)) + 24 * FINE

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.left) * self.zoom, (self.top - y) * self.zoom + BAR * FINE

    def _disc(self, place: np.ndarray, radius: float) -> tuple[float, float, float, float]:
        (x, y), r = self._at(place[X], place[Y]), radius * self.zoom
        return x - r, y - r, x + r, y + r

    def _ground(self) -> Image.Image:
        image = Image.new("RGB", self.size, PAPER)
        pen, free, wide = ImageDraw.Draw(image), np.pad(ground(self.map.name), 1), FINE
        for x, y in np.argwhere(free) - 1:
            (x0, y0), (x1, y1) = self._at(x, y + 1), self._at(x + 1, y)
            pen.rectangle((x0, y0, x1, y1), GROUND)
        for x, y in np.argwhere(free) - 1:
            (x0, y0), (x1, y1) = self._at(x, y + 1), self._at(x + 1, y)
            for dx, dy, line in ((-1, 0, (x0, y0, x0, y1)), (1, 0, (x1, y0, x1, y1)), (0, 1, (x0, y0, x1, y0)), (0, -1, (x0, y1, x1, y1))):
                if not free[x + 1 + dx, y + 1 + dy]:
                    pen.line(line, EDGE, wide)
        w, h = self.size
        for y in (0, h - BAR * FINE):
            pen.rectangle((0, y, w, y + BAR * FINE), (255, 255, 255))
        return image

    def _colour(self, i: int):
        return BLUE if i < self.map.n else ORANGE

    def _grave(self, pen, shot: Shot, i: int) -> None:
        faded = _mix(self._colour(i), GROUND, 0.65)
        place, unit = shot.frame[i], self.units[i]
        if shot.burst[i]:
            pen.ellipse(self._disc(place, unit.splash), _mix(self._colour(i), GROUND, 0.75), self._colour(i), FINE)
        x0, y0, x1, y1 = self._disc(place, unit.radius * 0.5)
        pen.line((x0, y0, x1, y1), faded, 2 * FINE)
        pen.line((x0, y1, x1, y0), faded, 2 * FINE)

    def _line(self, pen, shot: Shot, i: int) -> None:
        """From inside one disc to inside the other, so that it shows in a brawl as well."""
        j = shot.aim[i]
        a, b = shot.frame[i, [X, Y]], shot.frame[j, [X, Y]]
        u = (b - a) / max(np.hypot(*(b - a)), 1e-9)
        (x0, y0), (x1, y1) = self._at(*(a + 0.7 * self.units[i].radius * u)), self._at(*(b - 0.7 * self.units[j].radius * u))
        colour = GREEN if self.units[i].heal else self._colour(i)
        if not shot.fired[i]:
            pen.line((x0, y0, x1, y1), _mix(colour, GROUND, 0.6), FINE)
            return
        for shade, wide in (((255, 255, 255), 2.5 * FINE), (colour, 1.5 * FINE)):  # with a seam, seen on any ground
            pen.line((x0, y0, x1, y1), shade, round(2 * wide))
            pen.ellipse((x1 - 2 * wide, y1 - 2 * wide, x1 + 2 * wide, y1 + 2 * wide), shade)

    def _unit(self, pen, shot: Shot, i: int) -> None:
        place, unit, colour = shot.frame[i], self.units[i], self._colour(i)
        x0, y0, x1, y1 = self._disc(place, unit.radius)
        pen.ellipse((x0, y0, x1, y1), colour, _mix(colour, INK, 0.45), round(1.5 * FINE))
        letter = _font(round(1.2 * unit.radius * self.zoom / FINE))
        pen.text(((x0 + x1) / 2, (y0 + y1) / 2 + 1.5 * FINE), GLYPH[unit.name], (255, 255, 255) if i < self.map.n else INK, letter, "mm")
        bars = [(GREEN, place[HEALTH] / unit.health)] + ([(SKY, place[SHIELD] / unit.shield)] if unit.shield else [])
        for k, (bar, share) in enumerate(bars):  # across the disc's upper edge: neighbours stay in sight
            thick = round(max(0.13 * self.zoom, 3 * FINE))
            y = y0 + thick - k * (thick + FINE)
            pen.rectangle((x0 - FINE, y - thick - FINE, x1 + FINE, y + FINE - 1), INK)
            pen.rectangle((x0, y - thick, x1, y - 1), (255, 255, 255))
            if share > 0:
                pen.rectangle((x0, y - thick, x0 + max(share * (x1 - x0), FINE), y - 1), bar)


def _reachable(free: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The ground [x, y] bool that hangs together with where the units stand."""
    here = np.zeros_like(free)
    here[tuple(frame[:, [X, Y]].astype(int).T)] = True
    while True:
        wide = np.pad(here, 1)
        more = (wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2] | here) & free
        if (more == here).all():
            return here
        here = more


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(pixels * FINE)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))


# --- the episode

Player = Callable[[Smac, Observation, int], np.ndarray]  # environment, what is seen, step -> actions [1, n]


def player(policy: str, map: Map, seed: int) -> Player:
    """`heuristic`, `random`, the name of a shipped policy, or the path of a checkpoint or of a run's policies (of its first seed, or
    PATH:SEED). UserError: there is none like that."""
    from inspo_benchmark.datasets.behavior import SHIPPED
    from inspo_benchmark.datasets.behavior.smac_policy import act, load, uniform, uniforms
    from inspo_benchmark.learning import saved_policy

    if policy == "heuristic":
        chooses = Heuristic(map)
        return lambda env, seen, step: np.array([chooses(env.battles.frame[0], seen.avail[0])])
    shipped = {path.stem: path for path in (SHIPPED / map.name).glob("*.npz")}
    if policy == "random":
        net = uniform(map)
    elif policy in shipped or policy.endswith(".npz"):
        net = load(shipped.get(policy, Path(policy)), map)
    elif play := saved_policy.load_greedy_policy(policy, map.name):
        return lambda env, seen, step: play(seen)
    else:
        raise UserError(f"no policy {policy!r} for {map.name}; {suggest(policy, ['heuristic', 'random', *shipped])}")
    return lambda env, seen, step: act(net, seen.obs, seen.avail, uniforms(0, np.array([seed]), step, map.n))[0]


def record(map: Map, play: Player, seed: int) -> list[Shot]:
    """One episode: what there is at its start and after every step."""
    env = Smac(map.name, 1)
    units, frames = env.battles.units, env.battles.frame
    heals, bursts = np.array([unit.heal > 0 for unit in units]), np.array([unit.splash > 0 for unit in units])
    nobody, none = np.full(len(units), -1), np.zeros(len(units), bool)
    seen, total, end = env.reset([seed]), 0.0, ""
    shots = [Shot(frames[0].copy(), nobody, none, none, 0, total, end)]
    while not end:
        act, before = play(env, seen, len(shots) - 1), shots[-1]
        seen, reward, terminated, truncated, info = env.play(act, act, env.live)
        frame, aim, told = frames[0].copy(), env.battles.target[0].copy(), before.aim.copy()
        told[: map.n] = np.where(act[0] >= NO_ATTACK, act[0] - NO_ATTACK + np.where(heals[: map.n], 0, map.n), -1)
        fired = frame[:, COOLDOWN] > np.maximum(before.frame[:, COOLDOWN] - STEP_LOOPS, 0)
        fired |= heals & (frame[:, ENERGY] < before.frame[:, ENERGY])
        lost = frame[:, [HEALTH, SHIELD]].sum(1) < before.frame[:, [HEALTH, SHIELD]].sum(1)
        killer = fired & (told >= 0) & ((aim < 0) | (lost[told] & ~lost[aim]))  # it is after somebody else by now, or nobody
        aim = np.where(killer, told, aim)
        burst = bursts & (before.frame[:, HEALTH] > 0) & (frame[:, HEALTH] == 0)
        total += float(reward[0])
        end = "won" if info["won"][0] else "lost" if terminated[0] else "time is up" if truncated[0] else ""
        shots.append(Shot(frame, aim, fired, burst, len(shots), total, end))
    return shots


# --- the files


def _gif(stage: Stage, shots: Sequence[Shot], path: Path) -> None:
    """With one palette, that of the first, the middle and the last picture."""
    some = [stage.draw(shots[k]) for k in (0, len(shots) // 2, -1)]
    sheet = Image.new("RGB", (some[0].width, 3 * some[0].height))
    for k, picture in enumerate(some):
        sheet.paste(picture, (0, k * picture.height))
    palette = sheet.quantize(COLOURS)
    first, *others = (stage.draw(shot).quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots)
    durations = [MILLISECONDS] * len(others) + [LAST]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0)


def _mp4(stage: Stage, shots: Sequence[Shot], path: Path) -> None:
    shape = f"{stage.size[0] // FINE}x{stage.size[1] // FINE}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", shape, "-r", f"1000/{MILLISECONDS}", "-i", "-"]
    command = ["ffmpeg", "-y", "-v", "error", *source, "-pix_fmt", "yuv420p", str(path)]
    with tempfile.TemporaryFile() as said:
        with suppress(BrokenPipeError), subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as ffmpeg:  # it says why itself
            for shot in [*shots, *[shots[-1]] * (LAST // MILLISECONDS)]:
                ffmpeg.stdin.write(stage.draw(shot).tobytes())
        said.seek(0)
        lines = said.read().decode(errors="replace").split("\n")
    if ffmpeg.returncode:
        raise UserError(f"ffmpeg failed ({lines[0] or f'exit code {ffmpeg.returncode}'}); a .gif needs no ffmpeg")


def fight(shots: Sequence[Shot]) -> int:
    """The step in the middle of the fight: the median over all that was fired."""
    steps = [shot.step for shot in shots for _ in range(shot.fired.sum())]
    return int(np.median(steps)) if steps else len(shots) // 2


# --- the command line


def parser() -> argparse.ArgumentParser:
    cli = argparse.ArgumentParser(
        prog="python -m tools.render_smac",
        description="Play an episode in the StarCraft simulator and draw it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_argument("map", metavar="MAP", help=", ".join(MAPS))
    cli.add_argument(
        "--policy",
        default="heuristic",
        metavar="NAME",
        help="heuristic (SMAC's own, the default), random, a shipped one (expert, medium, ...), the path of a checkpoint (.npz), or of "
        "what a run of the benchmark saved beside its CSV (.policies; .policies:4 is its seed 4)",
    )
    cli.add_argument("--seed", type=int, default=0, metavar="K", help="of the episode (default: 0)")
    cli.add_argument("--out", type=Path, default=Path("episode.gif"), metavar="FILE", help=".gif (default: episode.gif), .mp4 or .png")
    cli.add_argument("--step", type=int, metavar="K", help="the step that a .png shows (default: the middle of the fight)")
    return cli


def run(args: argparse.Namespace) -> str:
    """Returns what there is to say about it."""
    map, out, kind = find(args.map), args.out, args.out.suffix.lower()
    if kind not in ENDINGS:
        raise UserError(f"--out {out}: the file's name has to end with {', '.join(ENDINGS)}")
    if kind == ".mp4" and not shutil.which("ffmpeg"):
        raise UserError(f"--out {out}: an .mp4 needs the program ffmpeg, which is not on the PATH; install it, or take .gif")
    if kind != ".png" and args.step is not None:
        raise UserError(f"--step {args.step}: only a .png shows one step, {out} shows them all")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: seeds are whole numbers from 0")
    act = player(args.policy, map, args.seed)
    with atomic_write(out) as part:  # first, so that a folder that cannot be written is no surprise at the end
        shots = record(map, act, args.seed)
        stage = Stage(map, map.units(), shots, f"{Path(args.policy).name}, seed {args.seed}")
        if kind == ".png":
            step = fight(shots) if args.step is None else args.step
            if not 0 <= step < len(shots):
                raise UserError(f"--step {step}: this episode has the steps 0 .. {len(shots) - 1}")
            stage.draw(shots[step]).save(part, optimize=True)
        else:
            (_gif if kind == ".gif" else _mp4)(stage, shots, part)
    last = shots[-1]
    return f"{out}: {map.name}, {args.policy}, seed {args.seed}: {last.end} after {last.step} steps, return {last.total:.2f}"


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return outcome(lambda: print(run(args)))


if __name__ == "__main__":
    sys.exit(main())
