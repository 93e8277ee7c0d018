"""The devices that experiments are trained on."""

import torch

from inspo_benchmark.core.errors import UserError


def usable_devices(names: list[str]) -> list[str]:
    """`cuda` means all GPUs. UserError: torch cannot use one of the devices."""
    if names == ["cuda"] and torch.cuda.is_available():
        names = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    for name in names:
        check_device(name, f"--device {name}")
    return names


def check_device(name: str, given: str) -> None:
    """UserError, which begins with what was `given`: torch cannot use the device."""
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"{given}: write cpu, cuda, or cuda:0 for the first GPU")
    if name.startswith("cuda") and not torch.backends.cuda.is_built():
        raise UserError(f"{given}: this torch is a build without CUDA; install one with it (pytorch.org), or use cpu")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{given}: {str(error).splitlines()[0]}") from None
