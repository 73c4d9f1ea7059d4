"""The suite ``derivatives``: second derivatives pushed forward, against autograd's double backward. Needs no data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor, nn

from sdfcore.fields import Jet
from sdfcore.networks import MLP, Siren, SphereSiren
from sdfcore.planning import device_named

from .document import BENCHMARKS, Bar, commit, machine, machine_line, publish, table

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP 6 × 256": lambda: MLP(256, 6, skip=3),
    "SIREN 4 × 256": lambda: Siren(256, 4),
    "quadratic sines 5 × 128": lambda: SphereSiren(128, 5, quadratic=True),
}
QUANTITIES: dict[str, Callable[[Jet], Tensor]] = {
    "gradient": lambda jet: jet.gradient.norm(dim=1),
    "Laplacian": lambda jet: jet.laplacian,
    "Hessian": lambda jet: jet.hessian.flatten(1).norm(dim=1),
    "H along ∇f": lambda jet: jet.curvature_along(jet.gradient),
}


class _Backward:
    """A network's field without what it can push forward, so that autograd is asked."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, points: Tensor) -> Tensor:
        value: Tensor = self._network(points)
        return value


def seconds(network: nn.Module, quantity: Callable[[Jet], Tensor], points: Tensor, *, backward: bool) -> float:
    """Of one step: the quantity, its mean, and the slope of that in the weights."""
    field = _Backward(network) if backward else network
    begun = time.perf_counter()
    quantity(Jet(field, points)).abs().mean().backward()
    if points.is_cuda:
        torch.cuda.synchronize()
    network.zero_grad()
    return time.perf_counter() - begun


@click.command()
@click.option("--points", type=click.IntRange(min=1), default=2048, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=BENCHMARKS)
def derivatives(points: int, repeats: int, device: str, output: Path) -> None:
    """Milliseconds of a training step on each quantity, both ways, alternating."""
    where = device_named(device)
    places = (2 * torch.rand(points, 3, generator=torch.Generator().manual_seed(0)) - 1).to(where)
    rows, ratios = [], []
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        network = make().to(where)
        for what, quantity in QUANTITIES.items():
            times: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(2 * (repeats + 1)):
                taken = seconds(network, quantity, places, backward=bool(turn % 2))
                if turn > 1:
                    times[bool(turn % 2)].append(taken)
            forward, back = median(times[False]), median(times[True])
            ratios.append(back / forward)
            rows.append((name, what, f"{1e3 * forward:.1f}", f"{1e3 * back:.1f}", f"{ratios[-1]:.2f}"))
            click.echo(" ".join(rows[-1]))
    head = ("network", "quantity", "forward, ms", "double backward, ms", "ratio")
    text = "\n\n".join(
        [
            "## Derivatives",
            f"A training step on {points:,} points: the quantity, its mean, and the slope in the weights; medians of "
            f"{repeats}, alternating.",
            "```\npython scripts/benchmark.py derivatives\n```",
            f"Machine: {machine_line(machine(), [commit()])} Device: {where}.",
            table(head, rows, words=2),
        ]
    )
    worst = min(ratios)
    publish("derivatives", text, [Bar("forward is never slower by a tenth", f"{worst:.2f}", worst > 0.9)], output)
