"""Draws an episode of multi-agent MuJoCo: python -m tools.render_mujoco hopper_3x1 --policy expert --out hopper.gif"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from PIL import Image

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.env import checked_seeds
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.types import Spec
from inspo_benchmark.datasets.behavior import mujoco_policy
from inspo_benchmark.envs.mamujoco import MaMujoco, parse_name
from inspo_benchmark.tools.rendering import Actor, find_actor, sampled

WIDTH, HEIGHT = 320, 240  # pixels
STEPS_PER_IMAGE = 2
IMAGE_MS = 60  # duration of an image, milliseconds
NUM_COLORS = 64
EXAMPLES = """examples:
  python -m tools.render_mujoco halfcheetah_6x1 --policy expert
  python -m tools.render_mujoco ant_2x4 --policy results/runs/bc/ant_2x4-medium-0123456789ab.policies:2 --out ant.gif

Without a display MuJoCo renders through EGL or OSMesa (Debian: libegl1 or libosmesa6).
"""


def actor(policy: str, name: str, spec: Spec, seed: int) -> Actor:
    """`random`, or any policy of `rendering.find_actor`. UserError: there is no such policy."""
    sample = partial(sampled, seed=seed, draws=spec.num_agents * spec.space.d)
    builtin = {"random": sample(partial(mujoco_policy.uniform, None, spec=spec))}
    return find_actor(
        policy, name, builtin, lambda path: sample(partial(mujoco_policy.act, mujoco_policy.load(path, name, spec), spec=spec))
    )


def record(name: str, act: Actor, seed: int, steps: int) -> tuple[list[Image.Image], int, float]:
    """Images of the first `steps` steps of an episode, the number of steps, and their return. UserError: MuJoCo cannot draw here."""
    try:
        env = MaMujoco(name, 1, render_mode="rgb_array", camera_name="track", width=WIDTH, height=HEIGHT)
        env.physics.env.render()
    except UserError:
        raise
    except Exception as e:  # MuJoCo's, gymnasium's or PyOpenGL's own, where a library or the display is missing
        reason = " ".join(str(e).split())[:200]
        raise UserError(f"MuJoCo cannot draw ({reason}): install libegl1, or libosmesa6 and set MUJOCO_GL=osmesa") from None
    observation, total, images = env.reset([seed]), 0.0, []
    for t in range(steps):
        if t % STEPS_PER_IMAGE == 0:
            images.append(Image.fromarray(env.physics.env.render()))
        observation, reward, terminated, truncated, _ = env.step(act(env, observation, t))
        total += float(reward[0])
        if terminated[0] or truncated[0]:
            break
    env.close()
    return images, t + 1, total


def parser() -> argparse.ArgumentParser:
    cli = CommandLine(
        prog="python -m tools.render_mujoco",
        description="Draw an episode of multi-agent MuJoCo.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_argument("scenario", metavar="SCENARIO", help="halfcheetah_6x1, halfcheetah_2x3, hopper_3x1, ant_2x4, ...")
    cli.add_argument(
        "--policy",
        default="expert",
        metavar="NAME",
        help="random, a shipped policy (expert, the default, medium, ...), a behavior policy's file (.npz), or a run's saved policies "
        "(.policies for the first seed, .policies:4 for seed 4)",
    )
    cli.add_argument("--seed", type=int, default=0, metavar="K", help="seed of the episode (default: 0)")
    cli.add_argument("--steps", type=int, default=150, metavar="N", help="number of steps to show (default: 150)")
    cli.add_argument("--out", type=Path, default=Path("episode.gif"), metavar="FILE", help="output: a .gif (default: episode.gif)")
    return cli


def render(args: argparse.Namespace) -> str:
    """Draw the episode. Returns a line about it. UserError: a wrong option, or a file that cannot be written."""
    name, out = args.scenario, args.out
    parse_name(name)
    if out.suffix.lower() != ".gif":
        raise UserError(f"--out {out}: the file's name has to end with .gif")
    checked_seeds([args.seed], 1)
    if args.steps < 1:
        raise UserError(f"--steps {args.steps}: should be at least 1")
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    act = actor(args.policy, name, TASKS.discover()[f"{name}-expert"].spec, args.seed)
    with atomic_write(out) as part:
        images, steps, total = record(name, act, args.seed, args.steps)
        first, *others = (image.quantize(NUM_COLORS, dither=Image.Dither.NONE) for image in images)
        first.save(part, save_all=True, append_images=others, duration=IMAGE_MS, loop=0, optimize=True)
    return f"{out}: {name}, {args.policy}, seed {args.seed}: {steps} steps, return {total:.1f}"


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return outcome(lambda: print(render(args)))


if __name__ == "__main__":
    sys.exit(main())
