"""Behaviour policies of StarCraft's datasets: what they are (policy), how they play (play), how they were trained (mappo)."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "checkpoints"


def shipped(map: str) -> bool:
    """Whether there are policies of the map."""
    return (SHIPPED / map / "expert.npz").exists()
