"""A whole shape from a partial scan and a shape space, in Blender without a window.

    blender --background [FILE.blend] --python scripts/complete.py -- [--object SCAN] [--space FILE] --output OUT ...
    python scripts/complete.py -- --input scan.ply --space chairs.safetensors --output chair.blend  (with module bpy)

The space is that of --space FILE, or of the .blend. OUT is a .blend, or the completed shape alone as .ply, .obj, .stl
or .glb. Exit codes as of fit_sdf.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Blender does not add a script's folder

import fit_sdf

if __name__ == "__main__":
    fit_sdf.run("space_commands", "complete")
