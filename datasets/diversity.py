"""How diverse the episodes of a dataset are."""

import math

import numpy as np

from inspo_benchmark.datasets.dataset import PART, Dataset

DECIMALS = 4  # to which states are rounded before they are compared


def saco(d: Dataset) -> float:
    """SACo (OG-MARL, Formanek et al. 2023): the share of distinct pairs of state and joint action among all transitions.

    States are equal if their numbers, rounded to four decimals, are. Pairs are compared by hashes of 64 bits.
    """
    now = d.now
    row_bytes = d.state[:1].nbytes + d.actions[:1].nbytes
    seen: set[int] = set()
    for part in np.array_split(np.arange(d.steps), max(1, d.steps * row_bytes // PART)):
        state = np.round(d.state[now[part]], DECIMALS) + 0.0  # no negative zeros
        actions = d.actions[part].reshape(len(part), -1).astype("<f4")
        seen.update(hash(row.tobytes()) for row in np.concatenate([state, actions], 1))
    return len(seen) / d.steps


def entropy(d: Dataset) -> float:
    """Entropy of the behavior policies in nats per decision, E[-log mu(a|o)], over the recorded actions of agents that had a choice.
    NaN: their probabilities are unknown, or actions are continuous."""
    if not d.behavior_logp.size or d.meta["action_kind"] == "continuous":
        return math.nan
    now = d.now
    total, decisions = 0.0, 0
    for part in np.array_split(np.arange(d.steps), max(1, d.avail.nbytes // PART)):
        free = d.avail[now[part]].sum(-1) > 1
        total -= float(d.behavior_logp[part][free].sum(dtype=np.float64))
        decisions += int(free.sum())
    return total / max(decisions, 1)
