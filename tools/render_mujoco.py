"""Pictures of robots: python -m tools.render_mujoco hopper_3x1 --policy expert --out hopper.gif"""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.env import Observation
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.registry import TASKS, suggest
from inspo_benchmark.core.types import Spec
from inspo_benchmark.envs.mamujoco import MaMujoco, split

WIDTH, HEIGHT = 320, 240
EVERY = 2  # steps from a picture to the next
COLOURS = 64
EXAMPLES = """examples:
  python -m tools.render_mujoco halfcheetah_6x1 --policy expert
  python -m tools.render_mujoco ant_2x4 --policy results/runs/bc/ant_2x4-medium-0123456789ab.policies:2 --out ant.gif

Without a screen MuJoCo draws through EGL or OSMesa, whichever the system has (Debian: libegl1 or libosmesa6).
"""

Player = Callable[[Observation, int], np.ndarray]  # what is seen, step -> actions [1, N, D]


def player(policy: str, name: str, spec: Spec, seed: int) -> Player:
    """`random`, the name of a shipped policy, or the path of a checkpoint or of a run's policies (of its first seed, or PATH:SEED).
    UserError: there is none like that."""
    from inspo_benchmark.datasets.behavior import SHIPPED, mujoco_policy
    from inspo_benchmark.datasets.behavior.smac_policy import uniforms
    from inspo_benchmark.learning import saved_policy

    shipped = {path.stem: path for path in (SHIPPED / name).glob("*.npz")}
    if policy == "random":
        act = partial(mujoco_policy.uniform, None, spec=spec)
    elif policy in shipped or policy.endswith(".npz"):
        act = partial(mujoco_policy.act, mujoco_policy.load(shipped.get(policy, Path(policy)), name, spec), spec=spec)
    elif play := saved_policy.load_greedy_policy(policy, name):
        return lambda seen, step: play(seen)
    else:
        raise UserError(f"no policy {policy!r} for {name}; {suggest(policy, ['random', *shipped])}")
    draws = spec.num_agents * spec.space.d
    return lambda seen, step: act(seen.obs, seen.avail, uniforms(0, np.array([seed]), step, draws))[0]


def record(name: str, play: Player, seed: int, steps: int) -> tuple[list[Image.Image], int, float]:
    """Pictures of an episode's first `steps` steps; how many there were, and what they earned."""
    env = MaMujoco(name, 1, render_mode="rgb_array", camera_name="track", width=WIDTH, height=HEIGHT)
    seen, total, shots = env.reset([seed]), 0.0, []
    for step in range(steps):
        if step % EVERY == 0:
            shots.append(Image.fromarray(env.play.robots[0].render()))
        seen, reward, terminated, truncated, _ = env.step(play(seen, step))
        total += float(reward[0])
        if terminated[0] or truncated[0]:
            break
    env.close()
    return shots, step + 1, total


def parser() -> argparse.ArgumentParser:
    cli = argparse.ArgumentParser(
        prog="python -m tools.render_mujoco",
        description="Play an episode of a robot and draw it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_argument("scenario", metavar="SCENARIO", help="halfcheetah_6x1, halfcheetah_2x3, hopper_3x1, ant_2x4, ...")
    cli.add_argument("--policy", default="expert", metavar="NAME", help="random, a shipped one (expert, ...), a .npz, or a .policies")
    cli.add_argument("--seed", type=int, default=0, metavar="K", help="of the episode (default: 0)")
    cli.add_argument("--steps", type=int, default=150, metavar="N", help="how many steps to show (default: 150)")
    cli.add_argument("--out", type=Path, default=Path("episode.gif"), metavar="FILE", help="a .gif (default: episode.gif)")
    return cli


def run(args: argparse.Namespace) -> str:
    name, out = args.scenario, args.out
    split(name)
    if out.suffix.lower() != ".gif":
        raise UserError(f"--out {out}: the file's name has to end with .gif")
    if args.seed < 0 or args.steps < 1:
        raise UserError(f"--seed {args.seed} --steps {args.steps}: seeds are whole numbers from 0, steps from 1")
    os.environ.setdefault("MUJOCO_GL", "" if os.environ.get("DISPLAY") else "egl")
    play = player(args.policy, name, TASKS.discover()[f"{name}-expert"].spec, args.seed)
    with atomic_write(out) as part:
        shots, steps, total = record(name, play, args.seed, args.steps)
        first, *others = (shot.quantize(COLOURS, dither=Image.Dither.NONE) for shot in shots)
        first.save(part, save_all=True, append_images=others, duration=60, loop=0, optimize=True)
    return f"{out}: {name}, {args.policy}, seed {args.seed}: {steps} steps, return {total:.1f}"


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return outcome(lambda: print(run(args)))


if __name__ == "__main__":
    sys.exit(main())
