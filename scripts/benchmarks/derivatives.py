"""The suite ``derivatives``: derivatives pushed forward, by autograd's double backward, and as fits get them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
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
    "H ∇f": lambda jet: jet.hessian_times(jet.gradient).norm(dim=1),
}
WAYS = ("forward", "double backward", "as used")


class _Backward:
    """A network's field without what it can push forward, so that autograd is asked."""

    backward_twice = True

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, points: Tensor) -> Tensor:
        value: Tensor = self._network(points)
        return value


class _BackwardJet(Jet):
    """Second derivatives are asked of autograd, row after row."""

    @cached_property
    def laplacian(self) -> Tensor:
        return self.hessian.diagonal(dim1=1, dim2=2).sum(dim=1)


class _Forward(_Backward):
    """A network's field that is not asked to go backward."""

    backward_twice = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.pushforward, self.second = network.pushforward, network.second


def jet(way: str, network: nn.Module, points: Tensor) -> Jet:
    """Of ``network`` at ``points`` (N, 3), its derivatives had one of the ``WAYS``."""
    if way == "double backward":
        return _BackwardJet(_Backward(network), points)
    return Jet(_Forward(network) if way == "forward" else network, points)


def seconds(way: str, network: nn.Module, quantity: Callable[[Jet], Tensor], points: Tensor) -> float:
    """Of one step: the quantity, its mean, and the slope of that in the weights."""
    begun = time.perf_counter()
    quantity(jet(way, network, points)).abs().mean().backward()
    if points.is_cuda:
        torch.cuda.synchronize()
    network.zero_grad()
    return time.perf_counter() - begun


def medians(network: nn.Module, quantity: Callable[[Jet], Tensor], points: Tensor, repeats: int) -> dict[str, float]:
    """Seconds of each way, one after the other ``repeats`` times, after a round that does not count."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats + 1):
        for way in WAYS:
            times[way].append(seconds(way, network, quantity, points))
    return {way: median(taken[1:]) for way, taken in times.items()}


@click.command()
@click.option("--points", type=click.IntRange(min=1), default=2048, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=BENCHMARKS)
def derivatives(points: int, repeats: int, device: str, output: Path) -> None:
    """Milliseconds of a training step on each quantity: forward, backward, and as fits do it. Needs no data."""
    where = device_named(device)
    places = (2 * torch.rand(points, 3, generator=torch.Generator().manual_seed(0)) - 1).to(where)
    rows, ratios = [], []
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        network = make().to(where)
        for what, quantity in QUANTITIES.items():
            found = medians(network, quantity, places, repeats)
            ratios.append(found["as used"] / min(found["forward"], found["double backward"]))
            rows.append((name, what, *(f"{1e3 * found[way]:.1f}" for way in WAYS), f"{ratios[-1]:.2f}"))
            click.echo(" ".join(rows[-1]))
    head = ("network", "quantity", "forward, ms", "double backward, ms", "as used, ms", "of the faster")
    text = "\n\n".join(
        [
            "## Derivatives",
            f"A training step on {points:,} points: the quantity, its mean, and the slope in the weights; medians of "
            f"{repeats}, alternating. Fits on a processor have gradients, Hessians and their products from autograd, "
            "backward twice, and Laplacians pushed forward as one number beside the three slopes; what is pushed "
            "forward in the column *forward* is the same.",
            "```\npython scripts/benchmark.py derivatives\n```",
            f"Machine: {machine_line(machine(), [commit()])} Device: {where}.",
            table(head, rows, words=2),
        ]
    )
    worst = max(ratios)
    bar = Bar("what is used takes at most 1.1 of the faster way", f"{worst:.2f}", worst <= 1.1)
    publish("derivatives", text, [bar], output)
