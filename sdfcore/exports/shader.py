"""A fitted shape as a function of a shading language: GLSL, and OSL for Cycles.

Both come from one program: a function of three numbers for every network in it, with its weights as constants, in the
order of the network's own ``forward``. What GLSL and OSL write differently is in :class:`Dialect`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import UnsupportedLayerError
from ..fields import NeuralSDF
from ..networks import MLP, Boxed, FourierMLP, Lipschitz, Mended, Offset, Placed, Siren, SphereSiren, Turned
from ..networks.layers import ELU, ReLU, SignedRoot, Sine, Softplus, Tanh, linears
from ..networks.lipschitz import Contraction
from ..networks.sphere_siren import Quadratic

MOST_WEIGHTS = 100_000  # a compiler for shaders takes minutes for more, if it does not give up
_PER_LINE = 12


@dataclass(frozen=True)
class Dialect:
    """What tells the languages apart."""

    name: str
    suffix: str
    array: Callable[[str, str], str]  # declaration of a constant array: its name with its size, and its values
    vector: str  # the type of a point


GLSL = Dialect("GLSL", ".glsl", lambda name, values: f"const float {name} = float[]({values});", "vec3")
OSL = Dialect("OSL", ".osl", lambda name, values: f"float {name} = {{{values}}};", "point")


@dataclass
class Program:
    """Functions float → float³, one after another; each may call those before it."""

    dialect: Dialect
    functions: list[str] = field(default_factory=list)
    weights: int = 0
    body: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)

    def constant(self, values: Tensor) -> str:
        """The name of an array that holds ``values``, row after row."""
        flat = values.detach().double().reshape(-1).tolist()
        self.weights += len(flat)
        if self.weights > MOST_WEIGHTS:
            raise UnsupportedLayerError(
                f"A {self.dialect.name} function of more than {MOST_WEIGHTS} weights would not compile in good time.",
                "Fit with a smaller network (preset draft), or export ONNX or OpenVDB.",
            )
        name = f"w{len(self.functions)}_{len(self.constants)}"
        rows = [", ".join(map(number, flat[i : i + _PER_LINE])) for i in range(0, len(flat), _PER_LINE)]
        self.constants.append(self.dialect.array(f"{name}[{len(flat)}]", ",\n  ".join(rows)))
        return name

    def line(self, text: str) -> None:
        self.body.append(text)

    def room(self, name: str, size: int) -> str:
        self.line(f"float {name}[{size}];")
        return name

    def finished(self, value: str) -> str:
        """Ends the function whose body was written; its name."""
        name = f"sdf_part{len(self.functions)}"
        inner = self.constants + self.body if self.dialect is OSL else self.body
        before = [] if self.dialect is OSL else self.constants
        text = [*before, f"float {name}(float x0, float x1, float x2)", "{"]
        text += [f"  {line}" for line in [*inner, f"return {value};"]] + ["}"]
        self.functions.append("\n".join(text))
        self.body, self.constants = [], []
        return name

    def dense(self, weight: Tensor, bias: Tensor | None, source: str, target: str, bent: Callable[[str], str]) -> None:
        """target[i] = bent(Σⱼ weight[i, j] source[j] + bias[i])."""
        outs, ins = weight.shape
        rows = self.constant(weight)
        start = "0.0" if bias is None else f"{self.constant(bias)}[i]"
        self.line(f"for (int i = 0; i < {outs}; i++) {{")
        self.line(f"  float z = {start};")
        self.line(f"  for (int j = 0; j < {ins}; j++) z += {rows}[i * {ins} + j] * {source}[j];")
        self.line(f"  {target}[i] = {bent('z')};")
        self.line("}")

    def position(self, size: int = 3) -> str:
        """An array that begins with the point, the rest being 0."""
        name = self.room("x", size)
        for i in range(3):
            self.line(f"x[{i}] = x{i};")
        if size > 3:
            self.line(f"for (int i = 3; i < {size}; i++) x[i] = 0.0;")
        return name

    def read_out(self, last: nn.Linear, source: str) -> str:
        """A name for the single number that the last layer gives."""
        self.line("float value[1];")
        self.dense(last.weight, last.bias, source, "value", lambda z: z)
        return "value[0]"


def number(value: float) -> str:
    """As a shader writes a float; enough digits for float32."""
    text = f"{value:.9g}"
    return text if any(c in text for c in ".en") else f"{text}.0"


def bend(activation: nn.Module) -> Callable[[str], str]:
    """The expression of an activation.

    Raises:
        UnsupportedLayerError: there is none for this kind.
    """
    if isinstance(activation, Softplus):
        beta = number(activation.beta)
        return lambda z: f"max({z}, 0.0) + log(1.0 + exp(-abs({beta} * {z}))) / {beta}"
    if isinstance(activation, ReLU):
        return lambda z: f"max({z}, 0.0) + {number(activation.slope)} * min({z}, 0.0)"
    if isinstance(activation, ELU):
        return lambda z: f"({z} > 0.0 ? {z} : exp({z}) - 1.0)"
    if isinstance(activation, Tanh):
        return lambda z: f"tanh({z}) + {number(activation.leak)} * {z}"
    if isinstance(activation, Sine):
        return lambda z: f"sin({number(activation.omega)} * {z})"
    if isinstance(activation, SignedRoot):
        return lambda z: f"{z} * pow({z} * {z} + {number(activation.epsilon**2)}, -0.25)"
    raise UnsupportedLayerError(f"There is no expression for {type(activation).__name__}.", "Export ONNX instead.")


@singledispatch
def function_of(network: nn.Module, program: Program) -> str:
    """The name of the function, in ``program``, that gives a network's value.

    Raises:
        UnsupportedLayerError: this kind of network cannot be written so.
    """
    raise UnsupportedLayerError(
        f"{type(network).__name__} cannot be written as a {program.dialect.name} function.",
        "Fit with the recipe igr, siren, digs or lipschitz, or export OpenVDB or ONNX.",
    )


def _layers(program: Program, layers: list[nn.Linear], activation: nn.Module, source: str) -> str:
    for i, layer in enumerate(layers):
        target = program.room(f"h{i}", layer.out_features)
        program.dense(layer.weight, layer.bias, source, target, bend(activation))
        source = target
    return source


@function_of.register
def _(network: Siren, program: Program) -> str:
    h = _layers(program, linears(network.layers), network.activation, program.position())
    return program.finished(program.read_out(network.last, h))


@function_of.register
def _(network: FourierMLP, program: Program) -> str:
    angles = (2 * math.pi * network.frequencies).T
    count, x = len(angles), program.position()
    program.room("angle", count)
    program.dense(angles, None, x, "angle", lambda z: z)
    h = program.room("waves", 2 * count)
    program.line(
        f"for (int i = 0; i < {count}; i++) {{ waves[i] = sin(angle[i]); waves[i + {count}] = cos(angle[i]); }}"
    )
    return program.finished(
        program.read_out(network.last, _layers(program, linears(network.layers), network.activation, h))
    )


@function_of.register
def _(network: MLP, program: Program) -> str:
    x = h = _encoded(network, program)
    size = network.encoding.size
    for i, layer in enumerate(linears(network.layers)):
        if i and i == network.skip:
            before = layer.in_features - size
            again = program.room(f"again{i}", layer.in_features)
            half = number(1 / math.sqrt(2))
            program.line(f"for (int i = 0; i < {before}; i++) {again}[i] = {half} * {h}[i];")
            program.line(f"for (int i = 0; i < {size}; i++) {again}[i + {before}] = {half} * {x}[i];")
            h = again
        target = program.room(f"h{i}", layer.out_features)
        program.dense(layer.weight, layer.bias, h, target, bend(cast(nn.Module, network.activation)))
        h = target
    value = program.read_out(network.last, h)
    return program.finished(value if network.final is None else f"({bend(network.final)(value)})")


def _encoded(network: MLP, program: Program) -> str:
    """[x, sin(π 2ᵏ x), cos(π 2ᵏ x)], the frequencies of each coordinate side by side."""
    count = network.encoding.count
    x = program.position(network.encoding.size)
    for i in range(3):
        for k in range(count):
            angle = f"{number(math.pi * 2**k)} * x[{i}]"
            program.line(f"x[{3 + i * count + k}] = sin({angle});")
            program.line(f"x[{3 + (3 + i) * count + k}] = cos({angle});")
    return x


@function_of.register
def _(network: SphereSiren, program: Program) -> str:
    h, bent, plain = program.position(), bend(network.activation), lambda z: z
    for i, layer in enumerate([*network.stages, network.last]):
        after = plain if layer is network.last else bent
        width = layer.out_features if isinstance(layer, nn.Linear) else layer.linear.out_features
        target = program.room(f"h{i}", width)
        if isinstance(layer, nn.Linear):
            program.dense(layer.weight, layer.bias, h, target, after)
        else:
            _quadratic(program, layer, h, target, i, after)
        h = target
    program.line(f"float u = {h}[0];")
    return program.finished(f"{number(network.scaling)} * ({bend(network.root)('u')} - {number(network.radius)})")


def _quadratic(
    program: Program, layer: Quadratic, source: str, target: str, i: int, bent: Callable[[str], str]
) -> None:
    width, ins = layer.linear.out_features, layer.linear.in_features
    plain = lambda z: z
    parts = [program.room(f"{name}{i}", width) for name in ("line", "gate", "square")]
    squares = program.room(f"squares{i}", ins)
    program.line(f"for (int i = 0; i < {ins}; i++) {squares}[i] = {source}[i] * {source}[i];")
    for part, inner, origin in zip(
        parts, (layer.linear, layer.gate, layer.square), (source, source, squares), strict=True
    ):
        program.dense(inner.weight, inner.bias, origin, part, plain)
    a, b, c = (f"{part}[i]" for part in parts)
    program.line(f"for (int i = 0; i < {width}; i++) {{ float z = {a} * {b} + {c}; {target}[i] = {bent('z')}; }}")


@function_of.register
def _(network: Lipschitz, program: Program) -> str:
    width = network.width
    h = program.position(width)
    program.room("inner", width)
    program.room("moved", width)
    for layer in (cast(Contraction, each) for each in network.layers):
        program.dense(layer.weight.T, layer.bias, h, "inner", bend(layer.activation))
        program.dense(layer.weight * layer.scale(), None, "inner", "moved", lambda z: z)
        program.line(f"for (int i = 0; i < {width}; i++) {h}[i] -= moved[i];")
    last = nn.Linear(width, 1)
    with torch.no_grad():
        last.weight.copy_(network._unit()[None])
        last.bias.copy_(network.last.bias)
    return program.finished(program.read_out(last, h))


# Networks made of networks -------------------------------------------------------------------------------------------


def _at(function: str, *places: str) -> str:
    return f"{function}({', '.join(places)})"


def _turned(rows: Tensor, places: list[str]) -> list[str]:
    """The three sums of a (3, 3) matrix times ``places``."""
    return [" + ".join(f"{number(float(r))} * ({p})" for r, p in zip(row, places, strict=True)) for row in rows]


@function_of.register
def _(network: Turned, program: Program) -> str:
    inner = function_of(network.inner, program)
    return program.finished(_at(inner, *_turned(network.rotation, ["x0", "x1", "x2"])))


@function_of.register
def _(network: Placed, program: Program) -> str:
    inner = function_of(network.inner, program)
    away = [f"x{i} - {number(float(shift))}" for i, shift in enumerate(network.shift)]
    scale = number(network.scale)
    places = [f"({sum_}) / {scale}" for sum_ in _turned(network.rotation.T, away)]
    return program.finished(f"{scale} * {_at(inner, *places)}")


@function_of.register
def _(network: Boxed, program: Program) -> str:
    inner = function_of(network.inner, program)
    for i, (low, high) in enumerate(zip(network.lower.tolist(), network.upper.tolist(), strict=True)):
        program.line(f"float n{i} = min(max(x{i}, {number(low)}), {number(high)});")
    program.line(f"float v = {_at(inner, 'n0', 'n1', 'n2')};")
    gaps = " + ".join(f"(x{i} - n{i}) * (x{i} - n{i})" for i in range(3))
    program.line(f"float away = sqrt({gaps});")
    return program.finished("(away > 0.0 ? max(v, 0.0) + away : v)")


@function_of.register
def _(network: Offset, program: Program) -> str:
    inner = function_of(network.inner, program)
    value = f"{_at(inner, 'x0', 'x1', 'x2')} - {number(network.distance)}"
    return program.finished(f"abs({value}) - {number(network.wall / 2)}" if network.wall else value)


@function_of.register
def _(network: Mended, program: Program) -> str:
    inner = function_of(network.inner, program)
    program.line(f"float v = {_at(inner, 'x0', 'x1', 'x2')};")
    program.line("float t;")
    for centre, radius, height in zip(network.centres, network.radii, network.heights, strict=True):
        gaps = " + ".join(f"(x{i} - {number(float(c))}) * (x{i} - {number(float(c))})" for i, c in enumerate(centre))
        program.line(f"t = min(max(4.0 / 3.0 * (1.0 - ({gaps}) / {number(float(radius) ** 2)}), 0.0), 1.0);")
        program.line(f"v += {number(float(height))} * t * t * (3.0 - 2.0 * t);")
    return program.finished("v")


# The files ----------------------------------------------------------------------------------------------------------


def to_glsl(sdf: NeuralSDF, name: str = "sdf") -> str:
    """``float sdf(vec3 p)`` for GLSL 4.0 or newer: the signed distance at a place in world units.

    Raises:
        UnsupportedLayerError: the network cannot be written so, or is too large.
    """
    return _written(sdf, GLSL, name)


def to_osl(sdf: NeuralSDF, name: str = "sdf") -> str:
    """An OSL shader for a Script node: a Position in, a Distance out, both in world units.

    Raises:
        UnsupportedLayerError: the network cannot be written so, or is too large.
    """
    shader = (
        'shader neural_sdf(\n  point Position = P [[string help = "World space"]],\n'
        '  output float Distance = 0.0 [[string help = "Negative inside"]])\n'
        f"{{\n  Distance = {name}(Position);\n}}\n"
    )
    return _written(sdf, OSL, name) + "\n" + shader


def _written(sdf: NeuralSDF, dialect: Dialect, name: str) -> str:
    from . import shader_solids  # noqa: F401 - more kinds of networks, by what is above

    program, frame = Program(dialect), sdf.frame
    network = sdf.network
    with torch.no_grad():
        function = function_of(network, program)
    places = ", ".join(f"(p[{i}] - {number(float(c))}) / {number(frame.scale)}" for i, c in enumerate(frame.centre))
    head = (
        f"// Signed distance, negative inside; recipe {sdf.info.get('recipe', '?')}, {program.weights} weights. sdfcore"
    )
    whole = f"float {name}({dialect.vector} p)\n{{\n  return {number(frame.scale)} * {function}({places});\n}}\n"
    return "\n\n".join([head, *program.functions, whole])
