"""``sdfcore export``: a model for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .command_fit import check_output
from .command_space import distinct_files
from .errors import InputError

if TYPE_CHECKING:
    from .fields import NeuralSDF

SUFFIXES = (".onnx", ".glsl", ".osl")


@dataclass(frozen=True)
class ExportCommand:
    """The options of ``sdfcore export``; :meth:`run` does it.

    Raises:
        SdfError: anything given cannot be used, or the model cannot be written so.
    """

    model: Path
    output: Path

    def run(self) -> str:
        """Does it, and returns a line that says what was written."""
        from . import storage, writing

        suffix = self.output.suffix.lower()
        if suffix == ".vdb":
            raise InputError(
                "OpenVDB files are written by Blender, which brings the library.",
                "There, on a result of Fit SDF: Ask > OpenVDB, or bpy.ops.sdf.export_volume(filepath=...).",
            )
        if suffix not in SUFFIXES:
            raise InputError(
                f"Models cannot be exported as {self.output.name!r}.", f"End the name with {', '.join(SUFFIXES)}."
            )
        check_output(self.output, self.output.suffix)
        distinct_files([self.output], [self.model])
        data = exported(storage.load(self.model), suffix)
        writing.write_bytes(self.output, data)
        return f"{self.output}: {len(data):,} bytes"


def exported(sdf: NeuralSDF, suffix: str) -> bytes:
    """The content of a file that ends with ``suffix``, of a fitted shape."""
    if suffix == ".onnx":
        from .exports.onnx import to_onnx

        return to_onnx(sdf)
    from .exports.shader import to_glsl, to_osl

    return (to_glsl if suffix == ".glsl" else to_osl)(sdf).encode("ascii", "replace")
