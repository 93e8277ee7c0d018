"""Statistics of published recordings of real SMAC and SMACv2, to compare the simulator's datasets with.

OG-MARL: the dataset cards of github.com/instadeepai/og-marl, SC2 4.10; Poor, Medium and Good or Expert are QMIX at three stages, with
exploration; those of SMACv2 are in huggingface.co/datasets/InstaDeepAI/og-marl, and their returns have the scale of the first team of
each process. CFCQL: the data of github.com/thu-rllab/CFCQL as OG-MARL's cards describe them; their win rates are derived from the means
and standard deviations of the returns. Its workers shared one seed, so that nearly every battle is there eight times.
"""

from typing import NamedTuple


class PublishedStatistics(NamedTuple):
    """Episodes of the real game; "" or None: not published."""

    name: str  # its authors' name
    mean: float | None = None  # return
    std: float | None = None
    length: float | None = None
    win_rate: str = ""
    saco: str = ""  # see datasets.diversity


def _og(quality: str, mean: float, std: float | None, length: float, saco: str = "") -> PublishedStatistics:
    return PublishedStatistics(f"OG-MARL {quality}", mean, std, length, saco=saco)


def _cfcql(quality: str, win_rate: str) -> PublishedStatistics:
    saco = {"medium": "0.10 to 0.12", "expert": "0.10 to 0.12", "mixed": "0.22 to 0.25"}
    return PublishedStatistics(f"CFCQL {quality}", win_rate=win_rate, saco=saco.get(quality, ""))


# map -> quality -> recordings that are similar, not equal, in quality
RECORDINGS: dict[str, dict[str, list[PublishedStatistics]]] = {
    "3m": {
        "random": [_og("Poor", 4.69, 2.1, 20.4, "0.81")],
        "medium": [_og("Medium", 9.96, None, 23.9, "0.85")],
        "expert": [_og("Good", 16.5, None, 22.9, "0.80")],
    },
    "8m": {
        "random": [_og("Poor", 5.28, 0.56, 48.2)],
        "medium": [_og("Medium", 10.1, None, 25.4)],
        "expert": [_og("Good", 16.9, None, 32.6)],
    },
    "2s3z": {
        "random": [_og("Poor", 6.88, None, 100.2, "0.96 to 0.98")],
        "medium": [_og("Medium", 12.76, None, 50.8, "0.96 to 0.98"), _cfcql("medium", "0.09 to 0.15")],
        "medium_replay": [_og("Medium-Replay", 7.94, None, 50.7), _cfcql("medium-replay", "0.04 to 0.06")],
        "expert": [_og("Expert", 19.97, 0.37, 42.4, "0.96 to 0.98"), _cfcql("expert", "0.95 to 0.99")],
        "mixed": [_cfcql("mixed", "0.55 to 0.58")],
    },
    "5m_vs_6m": {
        "random": [_og("Poor", 7.45, None, 20.5, "0.84 to 0.87")],
        "medium": [_og("Medium", 12.05, None, 27.1, "0.84 to 0.87"), _cfcql("medium", "0.18 to 0.21")],
        "medium_replay": [_og("Medium-Replay", 9.02, None, 23.7), _cfcql("medium-replay", "up to 0.04")],
        "expert": [_og("Expert", 18.17, None, 25.7, "0.84 to 0.87"), _cfcql("expert", "0.80")],
        "mixed": [_cfcql("mixed", "0.50")],
    },
    "3s_vs_5z": {
        "medium": [_og("Medium", 20.86, None, 235)],
        "medium_replay": [_og("Medium-Replay", 18.85, None, 216)],
        "expert": [_og("Expert", 21.19, 0.70, 120)],
    },
    "6h_vs_8z": {
        "random": [_og("Poor", 9.12, None, 24.2)],
        "medium": [_og("Medium", 16.6, None, 41.4), _cfcql("medium", "0.30 to 0.41")],
        "medium_replay": [_og("Medium-Replay", 12.97, None, 36.5), _cfcql("medium-replay", "up to 0.05")],
        "expert": [_og("Expert", 19.01, None, 45.6), _cfcql("expert", "0.79")],
        "mixed": [_cfcql("mixed", "0.53 to 0.61")],
    },
    "3s5z_vs_3s6z": {
        "random": [_og("Poor", 5.90, None, 56)],
        "medium": [_og("Medium", 10.7, None, 53)],
        "expert": [_og("Good", 16.6, None, 136)],
    },
    "corridor": {
        "random": [_og("Poor", 4.93, None, 51)],
        "medium": [_og("Medium", 13.07, None, 126)],
        "expert": [_og("Good", 19.88, None, 100)],
    },
    "2c_vs_64zg": {
        "random": [_og("Poor", 8.91, None, 31)],
        "medium": [_og("Medium", 13.0, None, 38)],
        "expert": [_og("Good", 19.94, None, 59)],
    },
    "terran_5_vs_5": {
        "random": [_og("Random", 2.43, 1.73, 39.6)],
        "medium_replay": [_og("Replay", 10.05, 5.84, 50.0)],
    },
    "terran_10_vs_10": {"medium_replay": [_og("Replay", 6.32, 3.62, 55.2)]},
    "zerg_5_vs_5": {"medium_replay": [_og("Replay", 7.34, 3.6, 37.1)]},
}
