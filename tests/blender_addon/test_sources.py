"""Which object a result was made from, whatever becomes of it: renamed, deleted, duplicated, appended, saved."""

from __future__ import annotations

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import operators, requests, results

pytestmark = pytest.mark.blender


def add_monkey(name: str = "Suzanne") -> bpy.types.Object:
    bpy.ops.mesh.primitive_monkey_add()
    bpy.context.object.name = name
    return bpy.context.object


def begin(addon) -> list:
    """What a click on Fit SDF does, without a window."""
    made = [addon.runtime().submit(requests.fit_job(o, bpy.context, True)) for o in operators.fittable(bpy.context)]
    for _ in range(3):  # hello, the request, its first events
        addon.runtime().tick()
    return made


def delete(obj: bpy.types.Object) -> None:
    """As the user does: it stays in the file while something points to it."""
    bpy.ops.object.select_all(action="DESELECT")
    obj.select_set(True)
    bpy.ops.object.delete()


def test_a_source_renamed_during_the_fit_is_followed(worker, addon):
    obj = add_monkey()
    worker.hold = True
    begin(addon)
    obj.name = "Ape"
    add_monkey("Suzanne")
    worker.release()
    addon.runtime().tick()
    result = bpy.data.objects["Ape.sdf"]
    assert result["sdf_source"] == "Ape"
    assert results.source_of(result) == obj
    assert results.of(obj) == result
    assert results.of(bpy.data.objects["Suzanne"]) is None


def test_a_source_renamed_after_the_fit_is_followed(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.data.objects["Suzanne.sdf"]
    obj.name = "Ape"
    add_monkey("Suzanne")
    assert results.source_of(result) == obj
    assert results.of(obj) == result
    assert results.of(bpy.data.objects["Suzanne"]) is None


@pytest.mark.parametrize("how", ["by the user", "by a script"])
def test_a_deleted_source_is_not_mistaken_for_another_of_its_name(worker, how):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    if how == "by the user":
        delete(obj)
        obj.name = "gone"
    else:
        bpy.data.objects.remove(obj)
    other = add_monkey("Suzanne")
    assert other.name == "Suzanne"
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) is None
    assert results.of(other) is None


def test_a_deleted_source_is_not_saved(worker, tmp_path):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.ops.ed.undo_push(message="fit")
    delete(obj)
    bpy.ops.ed.undo_push(message="delete")
    assert "Suzanne" in bpy.data.objects
    path = tmp_path / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    with bpy.data.libraries.load(str(path)) as (found, _):
        assert found.objects == ["Suzanne.sdf"]
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) is None
    bpy.ops.ed.undo()
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == bpy.context.scene.objects["Suzanne"]


def test_a_source_in_another_scene_is_saved(worker, tmp_path):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.data.scenes.new("other").collection.objects.link(obj)
    bpy.context.scene.collection.objects.unlink(obj)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"), copy=True)
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == obj


def test_the_source_survives_undo_redo_saving_and_loading(worker, tmp_path):
    add_monkey()
    bpy.ops.ed.undo_push(message="add monkey")
    bpy.ops.sdf.fit("EXEC_DEFAULT", True)
    bpy.ops.ed.undo()
    bpy.ops.ed.redo()
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == bpy.data.objects["Suzanne"]
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == bpy.data.objects["Suzanne"]


def test_duplicates_have_the_source_that_was_duplicated_with_them(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.ops.object.duplicate()  # the result alone
    assert results.source_of(bpy.context.object) == obj
    assert results.of(obj) == bpy.context.object, "the newest"
    bpy.ops.object.select_all(action="DESELECT")
    obj.select_set(True)
    bpy.data.objects["Suzanne.sdf"].select_set(True)
    bpy.ops.object.duplicate()
    (copy,) = (o for o in bpy.context.selected_objects if "sdf_model" in o)
    (source,) = (o for o in bpy.context.selected_objects if "sdf_model" not in o)
    assert results.source_of(copy) == source
    assert results.of(source) == copy


def test_an_appended_result_is_not_taken_for_one_of_an_object_here(worker, tmp_path):
    add_monkey()
    bpy.ops.sdf.fit()
    path = str(tmp_path / "other.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    here = add_monkey()
    bpy.ops.wm.append(filename="Suzanne.sdf", directory=f"{path}/Object/")
    result = bpy.data.objects["Suzanne.sdf"]
    assert results.source_of(result) == bpy.data.objects["Suzanne.001"], "its own comes with it"
    assert results.of(here) is None
    bpy.context.view_layer.objects.active = result
    assert bpy.ops.sdf.remesh() == {"FINISHED"}


def test_a_file_of_an_earlier_version_has_the_name_only(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.context.object
    del result["sdf_source_object"]
    assert results.source_of(result) == obj
    assert results.of(obj) == result
    bpy.ops.sdf.remesh()
    assert result["sdf_source_object"] == obj
