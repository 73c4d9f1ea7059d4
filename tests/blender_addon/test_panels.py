"""The panels, drawn into a recorder: what is shown before, during and after a fit, and after a failure."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import operators, panels, preferences, requests, sizes
from recorded_panels import Recorder, draw

pytestmark = pytest.mark.blender


def add_cube() -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=2)
    return bpy.context.object


def start(addon: Any) -> None:
    for obj in operators.fittable(bpy.context):
        addon.runtime().submit(requests.fit_job(obj, bpy.context, True))
    for _ in range(3):
        addon.runtime().tick()


def test_before_a_fit(worker):
    add_cube()
    main = draw(panels.SDF_PT_fit)
    assert main.texts("label")[0] == "Backend: not started"
    assert main.texts("prop") == ["recipe", "preset", "Hide Source"]
    assert "Fit SDF" in main.texts("operator")
    assert not main.texts("progress")
    assert not panels.SDF_PT_result.poll(bpy.context)
    advanced = draw(panels.SDF_PT_advanced)
    wanted = {"steps", "seconds", "resolution", "voxel_size", "level", "device", "seed", "use_modifiers", "samples"}
    assert wanted <= set(advanced.texts("prop"))


def test_several_objects_are_counted_on_the_button(worker):
    add_cube()
    add_cube()
    bpy.ops.object.select_all(action="SELECT")
    assert "Fit SDF (2 objects)" in draw(panels.SDF_PT_fit).texts("operator")


def test_during_a_fit(worker, addon):
    worker.hold = True
    add_cube().name = "first"
    add_cube().name = "second"
    bpy.ops.object.select_all(action="SELECT")
    start(addon)
    main = draw(panels.SDF_PT_fit)
    assert main.texts("progress") == ["100/1000, loss 0.5, 3 s left"]
    assert {"sdf.stop", "sdf.cancel"} <= set(main.texts("operator"))
    assert main.texts("operator").count("sdf.cancel") == 2
    assert "first: waiting" in main.texts("label")
    assert "It is a clean mesh" in main.texts("label")


def test_after_a_fit(worker):
    add_cube()
    bpy.ops.sdf.fit()
    assert panels.SDF_PT_result.poll(bpy.context)
    shown = draw(panels.SDF_PT_result)
    labels = shown.texts("label")
    assert labels[0] == "Cube.sdf"
    figures = dict(zip(labels[1::2], labels[2::2], strict=False))
    assert (figures["Vertices"], figures["Chamfer"], figures["Hausdorff"]) == ("8", "1.2 mm", "3.4 cm")
    assert (figures["Watertight"], figures["Recipe"], figures["Steps"]) == ("yes", "distance, draft", "10")
    assert shown.texts("operator") == ["Source", "sdf.remesh", "sdf.continue_fit"]


def test_what_is_not_known_is_not_shown(worker):
    add_cube()
    bpy.ops.sdf.fit()
    told = {"level": 0.05, "metrics": None, "warnings": ["the comparison failed"]}
    bpy.context.object["sdf_report"] = json.dumps(told)
    labels = draw(panels.SDF_PT_result).texts("label")
    assert "5 cm" in labels
    assert "the comparison failed" in labels
    assert not {"Chamfer", "Hausdorff", "Watertight", "Recipe", "Steps"} & set(labels)


def test_after_a_failure(worker, addon):
    worker.fail = {"Cube"}
    add_cube()
    start(addon)
    addon.runtime().tick()
    text = " ".join(draw(panels.SDF_PT_fit).texts("label"))
    assert "Cube: It is too flat. Thicken it." in text


def test_menus_offer_the_operator(worker):
    recorder = Recorder()
    panels._object_menu(SimpleNamespace(layout=recorder), bpy.context)
    assert "sdf.fit" in recorder.texts("operator")
    for menu in (bpy.types.VIEW3D_MT_object, bpy.types.VIEW3D_MT_object_convert):
        assert panels._object_menu in menu._dyn_ui_initialize()


def test_settings_describe_themselves(addon):
    for cls in (type(bpy.context.scene.sdf), preferences.SDFPreferences):
        for prop in cls.bl_rna.properties:
            if prop.identifier not in {"rna_type", "name", "bl_idname"}:
                assert prop.description, prop.identifier
                assert not prop.description.endswith("."), prop.identifier
    for cls in operators._CLASSES:
        assert cls.bl_description
        assert not cls.bl_description.endswith(".")


def test_voxel_size_and_resolution_are_two_views_of_one_setting(addon):
    add_cube().scale = (3, 1, 1)
    bpy.context.view_layer.update()
    settings = bpy.context.scene.sdf
    settings.resolution = 60
    assert settings.voxel_size == pytest.approx(6.6 / 60)
    settings.voxel_size = 0.055
    assert settings.resolution == 120


def test_expected_vertices_are_what_marching_cubes_makes(addon):
    # A cube of side 2, 55 cells along its box of 2.2: 6 sides of 50 x 50 cells, one vertex for each edge that crosses.
    # The estimate is for surfaces of all directions: 1.5 per cell face, so half as many again.
    obj = add_cube()
    bpy.context.view_layer.update()
    assert sizes.expected_vertices(obj, 55) == pytest.approx(1.5 * 6 * 50 * 50, rel=0.01)
    obj.scale = (2, 2, 2)
    bpy.context.view_layer.update()
    assert sizes.expected_vertices(obj, 55) == pytest.approx(1.5 * 6 * 50 * 50, rel=0.01)


def test_sizes_are_those_of_the_shape_as_shown_not_of_its_turned_box(addon):
    bpy.ops.mesh.primitive_uv_sphere_add(segments=64, ring_count=32, radius=1, rotation=(0.5, 0.6, 0.7))
    obj = bpy.context.object
    bpy.context.view_layer.update()
    assert sizes.measure(obj)[0] == pytest.approx(2, rel=0.01)
    assert sizes.measure(obj)[1] == pytest.approx(4 * 3.14159, rel=0.01)
    obj.modifiers.new("twice", "ARRAY").relative_offset_displace = (2, 0, 0)
    bpy.context.view_layer.update()
    assert sizes.measure(obj)[1] == pytest.approx(8 * 3.14159, rel=0.01)
    assert sizes.measure(None) == (0, 0)


def test_preferences_page_draws(addon):
    held = SimpleNamespace(
        **dict.fromkeys(
            ("backend_python", "worker_command", "device", "threads", "warm", "torch_build", "with_peers"), ""
        )
    )
    recorder = Recorder()
    panels.draw_preferences(held, recorder)
    assert {"sdf.test_backend", "sdf.open_log"} <= set(recorder.texts("operator"))


@pytest.mark.parametrize(("value", "text"), [(812, "812"), (12_345, "12.3k"), (345_678, "346k"), (3_400_000, "3.4M")])
def test_counts_are_short(value, text):
    assert sizes.count(value) == text


def test_a_killed_backend_is_said_to_start_again(worker, addon):
    worker.hold = True
    add_cube()
    start(addon)
    worker.transports[-1].die(-9)
    addon.runtime().tick()
    shown = draw(panels.SDF_PT_fit)
    assert shown.texts("label")[0] == "Backend: ended, starts with the next fit"
    assert addon.runtime().notice is not None, "why it ended is still said"
