"""Shader functions of published networks, of plain bodies, and of several shapes as one."""

from __future__ import annotations

from typing import cast

from torch import nn

from ..errors import UnsupportedLayerError
from ..networks import Body, Combined, DeepSDF
from ..networks.layers import linears
from .shader import Program, bend, function_of, number


@function_of.register
def _(network: DeepSDF, program: Program) -> str:
    if network.norms:
        raise UnsupportedLayerError(
            f"A network with layer normalisation cannot be written as a {program.dialect.name} function.",
            "Export ONNX or OpenVDB.",
        )
    x = h = program.position()
    *hidden, last = linears(network.layers)
    for i, layer in enumerate(hidden):
        target = program.room(f"h{i}", layer.out_features)
        bent = bend(cast(nn.Module, network.activation))
        program.dense(layer.weight, layer.bias, _again(network, program, i, h, x, layer), target, bent)
        h = target
    value = program.read_out(last, _again(network, program, len(hidden), h, x, last))
    program.line(f"float v = {value};")
    for _ in range(network.squashes):
        program.line("v = tanh(v);")
    return program.finished("v")


def _again(network: DeepSDF, program: Program, i: int, h: str, x: str, layer: nn.Linear) -> str:
    """What layer ``i`` reads: ``h``, and the point once more where it does that."""
    if i not in network.again:
        return h
    before, joined = layer.in_features - 3, program.room(f"again{i}", layer.in_features)
    program.line(f"for (int i = 0; i < {before}; i++) {joined}[i] = {h}[i];")
    program.line(f"for (int i = 0; i < 3; i++) {joined}[i + {before}] = {x}[i];")
    return joined


@function_of.register
def _(network: Body, program: Program) -> str:
    a, b, c = (number(size) for size in [*network.sizes, 0.0, 0.0, 0.0][:3])
    ring = f"sqrt(x0 * x0 + x1 * x1) - {a}"
    if network.shape == "sphere":
        return program.finished(f"sqrt(x0 * x0 + x1 * x1 + x2 * x2) - {a}")
    if network.shape == "torus":
        program.line(f"float r = {ring};")
        return program.finished(f"sqrt(r * r + x2 * x2) - {b}")
    if network.shape == "capsule":
        program.line(f"float z = x2 - min(max(x2, -{b}), {b});")
        return program.finished(f"sqrt(x0 * x0 + x1 * x1 + z * z) - {a}")
    if network.shape == "plane":
        return program.finished("x2")
    over = [f"abs(x{i}) - {size}" for i, size in enumerate((a, b, c))]
    over = over if network.shape == "box" else [ring, f"abs(x2) - {b}"]
    for i, side in enumerate(over):
        program.line(f"float o{i} = {side};")
    outside = " + ".join(f"max(o{i}, 0.0) * max(o{i}, 0.0)" for i in range(len(over)))
    most = "max(o0, o1)" if len(over) == 2 else "max(max(o0, o1), o2)"
    return program.finished(f"sqrt({outside}) + min({most}, 0.0)")


@function_of.register
def _(network: Combined, program: Program) -> str:
    first, *others = (f"{function_of(part, program)}(x0, x1, x2)" for part in network.parts)
    if network.operation == "morph":
        share = number(network.share)
        return program.finished(f"(1.0 - {share}) * {first} + {share} * {others[0]}")
    # an intersection is the union of what is outside, turned inside out; a difference max(a, -b) = -min(-a, b)
    outer = "" if network.operation == "union" else "-"
    inner = "-" if network.operation == "intersection" else ""
    program.line(f"float a = {outer}{first};")
    program.line("float b;")
    for other in others:
        program.line(f"b = {inner}{other};")
        program.line(f"a = {_least(network)};")
    return program.finished(f"{outer}a")


def _least(network: Combined) -> str:
    """See :func:`sdfcore.networks.combined.blended`."""
    r = number(network.radius)
    if network.radius <= 0:
        return "min(a, b)"
    if network.style == "smooth":
        near = f"(max({r} - abs(a - b), 0.0) / {r})"
        return f"min(a, b) - {near} * {near} * {number(network.radius / 4)}"
    if network.style == "chamfer":
        return f"min(min(a, b), (a + b - {r}) * {number(0.5**0.5)})"
    u, v = f"max({r} - a, 0.0)", f"max({r} - b, 0.0)"
    return f"max(min(a, b), {r}) - (min(a, b) > {r} ? 0.0 : sqrt({u} * {u} + {v} * {v}))"
