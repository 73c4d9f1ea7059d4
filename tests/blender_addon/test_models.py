"""Results without a fit: plain bodies at the cursor, and models from files."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import models, queries, results
from recorded_panels import Recorder

pytestmark = pytest.mark.blender

COUNTS = {"sphere": 1, "box": 3, "torus": 2, "cylinder": 2, "capsule": 2}  # of sizes, as the backend knows them


@pytest.mark.parametrize("shape", COUNTS)
def test_a_body_stands_at_the_cursor_and_can_be_combined(shape, worker):
    bpy.context.scene.cursor.location = (4, 5, 6)
    assert bpy.ops.sdf.add_body(shape=shape) == {"FINISHED"}
    (asked,) = worker.bodies("body")
    assert (asked["shape"], len(asked["sizes"])) == (shape, COUNTS[shape])
    assert all(size > 0 for size in asked["sizes"])
    made = bpy.context.active_object
    assert results.MODEL in made
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(made.matrix_world)[:3, 3], [4, 5, 6])
    np.testing.assert_allclose(np.array(queries.places([made]))[0][:3, 3], [4, 5, 6])
    assert bpy.ops.sdf.add_body(shape=shape) == {"FINISHED"}
    made.select_set(True)
    assert bpy.ops.sdf.stack.poll()


def test_sizes_that_are_given_are_taken(worker):
    assert bpy.ops.sdf.add_body(shape="torus", sizes=(2.0, 0.0, 0.0)) == {"FINISHED"}
    assert worker.bodies("body")[0]["sizes"] == [2.0, models.SIZES["torus"]["Tube"]]


def test_a_model_from_a_file_is_a_result_where_it_was_fitted(worker, tmp_path):
    bpy.context.scene.sdf.resolution = 48
    (tmp_path / "fox.npz").write_bytes(b"the layers")
    assert bpy.ops.sdf.load_model(filepath=str(tmp_path / "fox.npz")) == {"FINISHED"}
    (asked,) = worker.bodies("load_model")
    assert (asked["name"], asked["resolution"]) == ("fox.npz", 48)
    assert worker.requests[-1].arrays["file"].tobytes() == b"the layers", "the worker may be on another machine"
    made = bpy.context.active_object
    assert made.name.startswith("fox")
    assert results.MODEL in made
    np.testing.assert_allclose(np.array(made.matrix_world), np.eye(4))
    assert bpy.ops.sdf.measure.poll()
    assert not bpy.ops.sdf.continue_fit.poll(), "there is nothing that it was fitted to"


def test_a_model_that_is_not_there_is_said(worker, tmp_path):
    with pytest.raises(RuntimeError, match="cannot be opened"):
        bpy.ops.sdf.load_model(filepath=str(tmp_path / "fox.npz"))
    assert not worker.bodies("load_model")


def test_both_are_in_menus(worker):
    for menu, draw, name in (
        (bpy.types.VIEW3D_MT_add, models._add_menu, "sdf.add_body"),
        (bpy.types.TOPBAR_MT_file_import, models._import_menu, "sdf.load_model"),
    ):
        assert draw in menu._dyn_ui_initialize()
        recorder = Recorder()
        draw(SimpleNamespace(layout=recorder), bpy.context)
        assert recorder.drawn, name


def test_a_body_from_the_add_menu_asks_for_its_sizes():
    """Blender draws that menu for calls without a dialog; what other add-ons append must still be called so."""

    class Layout:
        operator_context = "EXEC_REGION_WIN"
        drawn: list = []

        def column(self):
            return type(self)()

        def operator_menu_enum(self, *_args, **_options):
            self.drawn.append(self.operator_context)

    layout = Layout()
    models._add_menu(SimpleNamespace(layout=layout), None)
    assert layout.drawn == ["INVOKE_DEFAULT"]
    assert layout.operator_context == "EXEC_REGION_WIN"
