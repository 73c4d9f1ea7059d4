"""Fields for other programs: whole files, level sets as OpenVDB reads them, shaders as they compute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import exporting, query_panels, results
from bl_ext.test.neural_sdf.sdfcore.errors import InputError
from recorded_panels import draw

pytestmark = pytest.mark.blender

ROOT = Path(__file__).resolve().parents[2]
SIDE = 16


@pytest.fixture
def result(worker):
    """A fit of a cube at (1, 2, 3), active."""
    bpy.ops.mesh.primitive_cube_add(location=(1, 2, 3))
    bpy.ops.sdf.fit()
    made = bpy.context.active_object
    assert results.MODEL in made
    return made


@pytest.mark.parametrize("suffix", [".onnx", ".glsl", ".osl"])
def test_a_file_is_written_whole(result, worker, tmp_path, suffix):
    assert bpy.ops.sdf.export_field(filepath=str(tmp_path / "field"), format=suffix) == {"FINISHED"}
    assert worker.bodies("export")[0]["suffix"] == suffix
    assert (tmp_path / f"field{suffix}").read_bytes() == b"a network"
    assert [p.name for p in tmp_path.iterdir()] == [f"field{suffix}"]
    assert {"sdf.export_field", "sdf.export_volume"} <= set(draw(query_panels.SDF_PT_ask).texts("operator"))


def test_a_folder_that_is_not_there_is_said_before_the_work(result, worker, tmp_path):
    for operator in (bpy.ops.sdf.export_field, bpy.ops.sdf.export_volume):
        with pytest.raises(RuntimeError, match="another folder"):
            operator(filepath=str(tmp_path / "nowhere" / "field"))
    assert not worker.bodies("export")
    assert not worker.bodies("volume")


def test_a_level_set_that_stands_where_the_result_stands(result, worker, tmp_path):
    result.location.x += 10
    bpy.context.view_layer.update()
    bpy.context.scene.sdf.level = 0.25
    assert bpy.ops.sdf.export_volume(filepath=str(tmp_path / "ball.vdb"), width=3) == {"FINISHED"}
    (body,) = worker.bodies("volume")
    assert (body["level"], body["width"]) == (0.25, 3)
    (grid,) = exporting.openvdb().readAll(str(tmp_path / "ball.vdb"))[0]
    assert grid.gridClass == exporting.openvdb().GridClass.LEVEL_SET
    read = grid.getConstAccessor()
    at = lambda *place: read.getValue(tuple(round(v / 0.1) for v in place))
    assert at(2.2, 2, 3) == pytest.approx(0.2, abs=1e-5)
    assert at(1, 2, 3.9) == pytest.approx(-0.1, abs=1e-5)
    assert at(1, 2, 3) == pytest.approx(-0.3), "what is enclosed is inside"
    assert at(9, 9, 9) == pytest.approx(0.3)
    made = bpy.data.objects[f"{result.name}.{exporting.GRID}"]
    assert made.type == "VOLUME"
    assert made.data.grids.load()
    assert [g.name for g in made.data.grids] == [exporting.GRID]
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(made.matrix_world)[:3, 3], [10, 0, 0], atol=1e-5)


# --- shaders, by Blender's own compilers -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shaders(tmp_path_factory) -> Path:
    """Shaders of small networks of every kind, and what the networks say on a square of places."""
    folder = tmp_path_factory.mktemp("shaders")
    python = os.environ["NEURAL_SDF_PYTHON"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    made = [python, str(ROOT / "tests" / "shader_models.py"), str(folder)]
    subprocess.run(made, check=True, env={**clean, "PYTHONPATH": str(ROOT)}, timeout=120)
    return folder


def check(folder: Path, kind: str, found: np.ndarray, tolerance: float) -> None:
    expected = np.load(folder / f"{kind}.npy")
    assert expected.std() > 50 * tolerance
    np.testing.assert_allclose(found, expected, atol=tolerance)


KINDS = [
    "mlp", "relu", "siren", "sphere_siren", "quadratic", "fourier", "lipschitz", "turned", "mended", "offset", "placed",
    "deepsdf", "elu", "union", "smooth", "round", "chamfer", "morph",
]  # fmt: skip


@pytest.mark.skipif(bpy.app.version < (5, 0), reason="only Blender 5 has a graphics context without a window")
@pytest.mark.parametrize("kind", KINDS)
def test_glsl_computes_what_the_network_says(shaders, kind):
    import gpu
    from gpu_extras.batch import batch_for_shader

    gpu.init()
    info, varying = gpu.types.GPUShaderCreateInfo(), gpu.types.GPUStageInterfaceInfo("square")
    varying.smooth("VEC2", "uv")
    info.vertex_in(0, "VEC2", "pos")
    info.vertex_out(varying)
    info.fragment_out(0, "VEC4", "colour")
    info.vertex_source("void main() { uv = pos * 0.5 + 0.5; gl_Position = vec4(pos, 0.0, 1.0); }")
    info.typedef_source((shaders / f"{kind}.glsl").read_text(encoding="ascii"))
    info.fragment_source(
        "void main() { colour = vec4(sdf(vec3(4.0 * uv.x - 1.0, 4.0 * uv.y - 4.0, 0.7)), 0.0, 0.0, 1.0); }"
    )
    shader = gpu.shader.create_from_info(info)
    square = batch_for_shader(shader, "TRIS", {"pos": [(-1, -1), (3, -1), (-1, 3)]})
    screen = gpu.types.GPUOffScreen(SIDE, SIDE, format="RGBA32F")
    with screen.bind():
        square.draw(shader)
        read = gpu.state.active_framebuffer_get().read_color(0, 0, SIDE, SIDE, 4, 0, "FLOAT")
    read.dimensions = SIDE * SIDE * 4
    check(shaders, kind, np.array(read).reshape(SIDE, SIDE, 4)[..., 0], 5e-6)


@pytest.fixture
def square(addon):
    """Renders what an OSL shader says on the square of places, by Cycles."""
    exporting.openvdb()  # whose folder holds the module that Cycles reads shaders' sockets with, too
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=6, location=(1, -2, 0.7))
    plane = bpy.context.active_object
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.type, camera.data.ortho_scale, camera.location = "ORTHO", 4.0, (1, -2, 5)
    scene.collection.objects.link(camera)
    scene.camera, scene.render.engine = camera, "CYCLES"
    scene.render.resolution_x = scene.render.resolution_y = SIDE
    scene.render.resolution_percentage = 100
    scene.cycles.shading_system, scene.cycles.samples, scene.cycles.use_denoising = True, 1, False
    scene.cycles.use_adaptive_sampling, scene.cycles.pixel_filter_type = False, "BOX"
    scene.cycles.filter_width = scene.render.filter_size = 0.01
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
    material = bpy.data.materials.new("Field")
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    plane.data.materials.append(material)

    def render(shader: Path, folder: Path) -> np.ndarray:
        from cycles import osl

        tree = material.node_tree
        tree.nodes.clear()
        names = ("ShaderNodeScript", "ShaderNodeMath", "ShaderNodeEmission", "ShaderNodeOutputMaterial")
        script, add, emission, out = (tree.nodes.new(name) for name in names)
        script.mode, script.filepath = "EXTERNAL", str(shader)
        said = []
        osl.update_script_node(script, lambda kind, text: said.append((kind, text)))
        assert "Distance" in script.outputs, said
        add.inputs[1].default_value = 8.0  # light is not negative
        emission.inputs[0].default_value = (1, 1, 1, 1)
        for a, b in ((script.outputs["Distance"], add.inputs[0]), (add.outputs[0], emission.inputs["Strength"]),
                     (emission.outputs[0], out.inputs[0])):  # fmt: skip
            tree.links.new(a, b)
        scene.render.filepath = str(folder / "picture.exr")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        return np.array(image.pixels[:]).reshape(SIDE, SIDE, 4)[..., 0] - 8.0

    return render


@pytest.mark.parametrize("kind", KINDS)
def test_osl_computes_what_the_network_says(shaders, square, tmp_path, kind):
    check(shaders, kind, square(shaders / f"{kind}.osl", tmp_path), 1e-3)  # a pixel's place is not just its middle


def test_the_module_of_older_blenders_is_found(scene, monkeypatch):
    old = SimpleNamespace(FloatGrid=object)
    monkeypatch.setitem(sys.modules, "openvdb", None)  # which importing refuses
    monkeypatch.setitem(sys.modules, "pyopenvdb", old)
    assert exporting.openvdb() is old
    monkeypatch.setitem(sys.modules, "pyopenvdb", None)
    with pytest.raises(InputError, match="no OpenVDB"):
        exporting.openvdb()
