"""Shapes between shapes, in Blender without a window: objects, an animation, or shape keys.

    blender --background [FILE.blend] --python scripts/interpolate.py -- [--object A --object B] --output OUT ...
    python scripts/interpolate.py -- --input a.ply --input b.ply --count 7 --output between.blend   (with module bpy)

It learns a shape space from the objects or files, or takes one from --space FILE or from the .blend. OUT is a .blend,
or .ply, .obj, .stl or .glb, of which there is then one for each shape. Exit codes as of fit_sdf.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Blender does not add a script's folder

import fit_sdf

if __name__ == "__main__":
    fit_sdf.run("space_commands", "interpolate")
