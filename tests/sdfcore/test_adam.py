"""Adam as the library's own class steps, without what that class brings along."""

from __future__ import annotations

import subprocess
import sys

import torch

from sdfcore.adam import Adam


def parameters() -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in ((3,), (4, 5), (2,))]


def loss(held: list[torch.nn.Parameter], number: int) -> torch.Tensor:
    used = held if number % 3 else held[:2]  # now and then one has no gradient
    return sum(((p - number) ** 2).sum() * 10.0**-k for k, p in enumerate(used, 1))


def test_steps_are_those_of_torch() -> None:
    ours, theirs = parameters(), parameters()
    mine = Adam([(ours[:1], 0.1), (ours[1:], 0.02)])
    their = torch.optim.Adam([{"params": theirs[:1], "lr": 0.1}, {"params": theirs[1:], "lr": 0.02}], eps=1e-12)
    for number in range(12):
        for optimiser, held in ((mine.forget_gradients, ours), (their.zero_grad, theirs)):
            optimiser()
            loss(held, number).backward()
        for group, rate in zip(their.param_groups, (0.1, 0.02), strict=True):
            group["lr"] = rate * (1 + number)
        mine.step(1.0 + number)
        their.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


def test_moments_that_are_restored_go_on_as_if_nothing_had_happened() -> None:
    whole, half = parameters(), parameters()
    first, second = Adam([(whole, 0.1)]), Adam([(half, 0.1)])
    for number in range(4):
        for optimiser, held in ((first, whole), (second, half)):
            optimiser.forget_gradients()
            loss(held, number).backward()
            optimiser.step()
        if number == 1:
            other = Adam([(half, 0.1)])
            for parameter, held_moments in second.moments.items():
                kept = [held_moments[name].clone() for name in ("step", "exp_avg", "exp_avg_sq")]
                other.restore(parameter, *kept)
            second = other
    for a, b in zip(whole, half, strict=True):
        assert torch.equal(a, b)


def test_fitting_does_not_import_the_compiler() -> None:
    """It would cost every process more than a second."""
    code = (
        "import sys, numpy as np; from sdfcore import Fit, PointCloud\n"
        "n = np.random.default_rng(0).normal(size=(500, 3)); n /= np.linalg.norm(n, axis=1)[:, None]\n"
        "fit = Fit(PointCloud(n, n), preset='draft', steps=2, resolution=16)\n"
        "for _ in fit: pass\n"
        "fit.mesh(fit.sdf)\n"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
