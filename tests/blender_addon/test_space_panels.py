"""The panel of shape spaces, drawn into a recorder."""

from __future__ import annotations

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import (
    blending,
    completing,
    panels,
    sequences,
    space_operators,
    space_panels,
    spaces,
)
from recorded_panels import draw

pytestmark = pytest.mark.blender


def add(count: int) -> None:
    for index in range(count):
        bpy.ops.mesh.primitive_cube_add(location=(3 * index, 0, 0))
    bpy.ops.object.select_all(action="SELECT")


def draw_all() -> list[str]:
    """All operators of the panel and of its sub-panels."""
    return [name for panel in space_panels._CLASSES for name in draw(panel).texts("operator")]


def test_before_anything_is_learned(worker):
    drawn = draw_all()
    assert {"Learn Shape Space", "Load", "sdf.blend", "sdf.interpolate", "Complete Scan"} <= set(drawn)
    add(3)
    assert "Learn from 3 Objects" in draw_all()
    assert "template_list" not in [kind for kind, _ in draw(space_panels.SDF_PT_space).drawn]


def test_with_a_space_its_shapes_are_listed(worker):
    add(3)
    bpy.ops.sdf.learn_space()
    shown = draw(space_panels.SDF_PT_space)
    assert "template_list" in [kind for kind, _ in shown.drawn]
    assert {"3 shapes, codes of 8", "First directions: 50%, 50%"} <= set(shown.texts("label"))
    assert "Code: +1.0 +0.0 σ" in shown.texts("label")
    ways = draw(space_panels.SDF_PT_interpolate)
    assert len(ways.texts("prop_search")) == 2
    assert "frame_start" not in ways.texts("prop")
    bpy.context.scene.sdf_shapes.mode = "ANIMATION"
    assert {"frame_start", "frame_end"} <= set(draw(space_panels.SDF_PT_interpolate).texts("prop"))


def test_a_running_learning_is_shown_here_and_not_with_the_fits(worker, addon):
    add(2)
    worker.hold = True
    addon.runtime().submit(spaces.learn_job(spaces.members(bpy.context), bpy.context, True))
    for _ in range(3):
        addon.runtime().tick()
    shown = draw(space_panels.SDF_PT_space)
    assert "Learning Space of 2 shapes" in shown.texts("label")
    assert shown.texts("progress") == ["100/1000, loss 0.5, 3 s left"]
    assert {"sdf.stop", "sdf.cancel"} <= set(shown.texts("operator"))
    assert draw(panels.SDF_PT_fit).texts("progress") == []
    assert bpy.ops.sdf.stop.poll()
    with pytest.raises(RuntimeError, match="being learned"):
        bpy.ops.sdf.blend()


def test_cancel_leaves_no_space_and_stop_keeps_what_there_is(worker, addon):
    add(2)
    worker.hold = True
    for how in ("cancel", "stop"):
        job = addon.runtime().submit(spaces.learn_job(spaces.members(bpy.context), bpy.context, True))
        job.target["put"] = space_operators._keep(bpy.context.scene.session_uid)
        for _ in range(3):
            addon.runtime().tick()
        getattr(bpy.ops.sdf, how)()
        addon.runtime().tick()
        assert spaces.has(bpy.context.scene) == (how == "stop")


def test_a_failure_is_said_here(worker, addon, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(b"no space")
    addon.runtime().submit(space_operators.load_job(path, bpy.context.scene))
    for _ in range(3):
        addon.runtime().tick()
    text = " ".join(draw(space_panels.SDF_PT_space).texts("label"))
    assert "cut.safetensors: It is damaged. Save it again." in text
    assert "damaged" not in " ".join(draw(panels.SDF_PT_fit).texts("label"))


@pytest.mark.parametrize(("count", "sliders"), [(2, {"Cube to Cube.001"}), (3, {"Cube", "Cube.001", "Cube.002"})])
def test_a_blend_has_its_sliders(worker, count, sliders):
    add(count)
    bpy.ops.sdf.blend()
    drawn = draw(space_panels.SDF_PT_blend)
    assert set(drawn.texts("prop")) == {*sliders, "blend_seconds", "resolution", "drag_resolution"}
    assert "sdf.keep_shape" in drawn.texts("operator")


def test_an_exploration_has_a_slider_for_each_direction(worker):
    add(3)
    bpy.ops.sdf.learn_space()
    bpy.ops.sdf.explore()
    drawn = draw(space_panels.SDF_PT_blend)
    assert [text for text in drawn.texts("prop") if text.startswith("Direction")] == [
        "Direction 1 (50%)",
        "Direction 2 (50%)",
    ]
    assert "sdf.randomise" in drawn.texts("operator")


def test_everything_describes_itself(addon):
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_cube_add()
    blend = bpy.context.object.sdf_blend
    for group in (scene.sdf_shapes, blend, blend.weights.add()):
        for prop in type(group).bl_rna.properties:
            if prop.identifier not in {"rna_type", "name"}:
                assert prop.description, prop.identifier
                assert not prop.description.endswith("."), prop.identifier
    for module in (space_operators, blending, sequences, completing):
        for cls in module._CLASSES:
            assert cls.bl_description
            assert not cls.bl_description.endswith(".")
    assert "Viewport Shading > Color > Attribute" in completing.SDF_OT_show_observed.bl_description
