"""Threads spin for a moment before they sleep, unless the user has said otherwise."""

from __future__ import annotations

import pytest

from sdfcore.threads import SPINS, settle


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_set_stays(given: dict[str, str]) -> None:
    environ = dict(given)
    settle(environ)
    assert environ == given


def test_threads_spin_for_a_moment() -> None:
    environ: dict[str, str] = {}
    settle(environ)
    assert environ == {"GOMP_SPINCOUNT": SPINS}
