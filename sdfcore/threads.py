"""How torch's threads wait for each other. Must be settled before torch is loaded; no torch here."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPINS = "5000"  # some microseconds


def settle(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let a waiting thread spin for a moment, then sleep; what the user has set stays.

    A fit is thousands of short parallel loops. Spinning without end, GNU OpenMP's way, makes it many times slower where
    another program (Blender, say) needs a core too; sleeping at once makes two threads as slow as one. Measured with
    draft on two cores: asleep at once 24 s, 5000 spins 17 s, spinning 17 s; with other programs on both cores, a step
    took 38 ms asleep, 62 ms to 90 ms with few spins, and up to 220 ms spinning.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environ.keys():
        environ["GOMP_SPINCOUNT"] = SPINS
