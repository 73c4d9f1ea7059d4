"""Threads that sleep while they wait: spinning ones make fits many times slower where other programs run too.

Read when torch is loaded, so it is set before any test module is; worker processes and command lines inherit it.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as sdfcore.threads says
