"""``sdfcore fit --recipe poisson`` and the like: a classical method on the same input, to be compared with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .console import Console
from .deadline import Stopwatch
from .errors import InputError
from .geometry import Mesh, PointCloud
from .peers import PEERS

if TYPE_CHECKING:
    from .command_fit import FitCommand


def run_peer(command: FitCommand) -> Mesh:
    """What ``command`` asks for, by the peer that its recipe names; the mesh that was written.

    Raises:
        SdfError: an option that only a fit has, or anything the method itself raises.
    """
    peer = PEERS[command.recipe]
    _refuse(command, peer.title)
    from . import reading, writing
    from .report import write_json

    screen, stages = Console(quiet=command.quiet), Stopwatch("starting", command.clock)
    stages.enter("reading")
    screen.stage("reading")
    source = reading.read(command.source)
    stages.enter("preparing")
    screen.stage("preparing")
    cloud, note = points_for_peer(source, command.samples, command.seed)
    if note:
        screen.say(f"{peer.name}: {note}")
    stages.enter("fitting")
    screen.stage("fitting")
    mesh = peer.run(cloud, **peer_settings(peer.name, command.resolution))
    stages.enter("writing")
    writing.write(command.output, mesh)
    if command.report is not None:
        stages.enter("measuring")
        write_json(command.report, peer_report(peer.name, note, source, mesh, command.seed, stages))
    return mesh


def points_for_peer(source: Mesh | PointCloud, samples: int | None, seed: int) -> tuple[PointCloud, str]:
    """Oriented points of ``source``, and what was done to get them, in a sentence."""
    from .orientation import oriented
    from .preparing import cloud_of

    cloud = cloud_of(source, samples, seed)
    return (cloud, "") if isinstance(source, Mesh) else oriented(cloud, seed)


def peer_settings(name: str, resolution: int | None) -> dict[str, Any]:
    """``resolution`` as the method ``name`` has it: Poisson's tree is as deep as its logarithm."""
    if resolution is None or name == "ball_pivoting":
        return {}
    return {"depth": max(4, round(math.log2(resolution)))} if name == "poisson" else {"resolution": resolution}


def peer_report(
    name: str, note: str, source: Mesh | PointCloud, mesh: Mesh, seed: int, stages: Stopwatch
) -> dict[str, Any]:
    """What was done and how good it became, as JSON values."""
    from . import metrics
    from .report import FORMAT, describe_input, json_values, versions

    comparison = metrics.compare(mesh, source)
    return json_values(
        {
            "format": FORMAT,
            "recipe": name,
            "reason": f"You chose it. {note}".strip(),
            "seed": seed,
            "input": describe_input(source),
            "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
            "metrics": comparison.as_dict(),
            "seconds": stages.finish(),
            "versions": versions(),
        }
    )


def _refuse(command: FitCommand, title: str) -> None:
    given = [name for name in ("steps", "seconds", "save", "pictures", "preset") if getattr(command, name) is not None]
    given += ["set"] if command.settings else []
    given += ["device"] if command.device != "auto" else []
    for name in given:
        raise InputError(f"{title} knows no --{name}.", "Leave it out, or choose a recipe of sdfcore.")
    if command.resolution is not None and command.recipe == "ball_pivoting":
        raise InputError(f"{title} knows no --resolution.", "Leave it out: its vertices are the points themselves.")
    if command.level:
        raise InputError(f"{title} knows no --level.", "Leave it out, or choose a recipe of sdfcore.")
