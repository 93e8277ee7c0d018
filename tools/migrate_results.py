"""Gives the results of version 0.1 the names that settings have since version 0.2: `python -m tools.migrate_results FOLDER ...`

Settings, the evaluation and the group of an experiment have other names in the JSON files, and the names of files follow from them.
CSV files keep their bytes: the copies are compared, and a difference ends the command. The old files are deleted once the new ones are
complete, so that an interrupted command can be run again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from inspo_benchmark.core.atomic_io import DamagedFile, atomic_write, load_checked, save_checked
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.limits import read_bytes
from inspo_benchmark.learning.saved_policy import SUFFIX
from inspo_benchmark.running import schema
from inspo_benchmark.running.experiment import digest, group_of
from inspo_benchmark.running.untrusted import check_folder

SETTINGS = {
    "hidden": "hidden_dim",
    "batch": "batch_size",
    "window": "seq_len",
    "memory": "network",
    "share": "share_params",
    "clip": "max_grad_norm",
    "steps": "num_updates",
    "period": "target_update_interval",
    "burn": "burn_in",
    "lam": "td_lambda",
    "samples": "num_samples",
    "optimiser": "optimizer",
    "hold": "anneal_start",
    "anneal": "anneal_duration",
    "average": "ema_rate",
    "warmup": "bc_warmup",
    "sets": "candidate_source",
    "rounds": "search_rounds",
    "candidates": "search_samples",
    "elites": "search_elites",
    "refit": "search_refit",
    "cem": "search_discrete",
    "local": "critic_sees_obs_only",
    "illegal": "count_unavailable",
    "padded": "count_padding",
    "stepwise": "per_timestep_critic",
    "temp": "lambda_temp",
    "weights": "lambda_weights",
    "delay": "policy_delay",
    "embed": "mixing_dim",
    "mixing": "mixing_dim",
    "cql": "cql_weight",
    "smooth": "grad_penalty",
}
EVALUATION = {"points": "num_evals", "episodes": "eval_episodes", "final_episodes": "final_episodes"}
KEYS = {"protocol": "evaluation", "family": "group"}


def renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}


def earlier(path: Path) -> dict[str, Any] | None:
    """The JSON of a result of version 0.1, with the fields' new names; None: of a later version. UserError: it is malformed."""
    try:
        about = schema.parse(path, {"algo", "task", "seeds"})
        if "family" not in about:
            return None
        about = renamed(about, KEYS)
        if wrong := schema.problem(about, {"config", "overrides", "evaluation", "data", "data.sha256"}):
            raise ValueError(wrong)
    except (OSError, ValueError) as e:
        raise UserError(f"{path} is malformed ({e})") from None
    return about


def copy(old: Path, new: Path, text: str) -> None:
    """Write the files of a result under their new names. `text`: of the JSON. The CSV is last: with it the result is complete."""
    if (policies := old.with_suffix(SUFFIX)).exists():
        try:
            kept = load_checked(policies, lambda kept: kept | {"config": renamed(kept["config"], SETTINGS)})
        except DamagedFile as e:
            raise UserError(f"{policies} is damaged ({e}); delete it") from None
        save_checked(kept, new.with_suffix(SUFFIX))
    with atomic_write(new) as part:
        part.write_text(text)
    with atomic_write(new.with_suffix(".csv")) as part:
        part.write_bytes(read_bytes(old.with_suffix(".csv")))


def migrate(folder: Path) -> int:
    """The number of experiments that were rewritten; unfinished ones, which have no CSV, are left out. UserError: a CSV would have changed,
    two experiments would be one, or a file is malformed."""
    check_folder(folder)
    count = 0
    for old in sorted(folder.glob("runs/*/[!.]*.json")):
        if not (about := earlier(old)):
            continue
        about["config"], about["overrides"] = renamed(about["config"], SETTINGS), renamed(about["overrides"], SETTINGS)
        about["evaluation"] = renamed(about["evaluation"], EVALUATION)
        data, preset = about["data"]["sha256"], about.get("preset", "")
        about["group"] = group_of(about["algo"], about["task"], about["config"], data, about["evaluation"], preset)
        new = old.with_name(f"{about['task']}-{digest(about['group'], about['seeds'])}.json")
        text, csv, new_csv = json.dumps(about, indent=2) + "\n", old.with_suffix(".csv"), new.with_suffix(".csv")
        if not new_csv.exists():
            if not csv.exists():
                continue
            copy(old, new, text)
        elif not new.exists() or read_bytes(new) != text.encode():
            raise UserError(f"{new} is there already; {old} is left as it is")
        if csv.exists() and read_bytes(new_csv) != read_bytes(csv):
            raise UserError(f"{new_csv} is not what {csv} was")
        for suffix in (".csv", SUFFIX, ".json"):  # the JSON is last, because this search begins with it
            old.with_suffix(suffix).unlink(missing_ok=True)
        count += 1
    return count


def main(argv: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m tools.migrate_results", description=__doc__.partition(":")[0])
    options.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a results folder: it holds runs/")
    args = options.parse_args(argv)

    def work() -> None:
        for folder in args.folders:
            print(f"{folder}: {migrate(folder)} experiments rewritten, every CSV as before")

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
