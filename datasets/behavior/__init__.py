"""Behavior policies of the SMAC and MuJoCo datasets: networks and files (policy, smac_policy, mujoco_policy), episodes (rollout).

tools/behavior trains them. The shipped ones are in checkpoints/<map or scenario>/<quality>-<number>.npz.
"""

from pathlib import Path

SHIPPED = Path(__file__).parent / "checkpoints"


def shipped(scenario: str) -> bool:
    """Whether policies of this SMAC map or MuJoCo scenario are shipped."""
    return (SHIPPED / scenario / "expert-0.npz").exists()
