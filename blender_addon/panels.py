"""What is drawn: the sidebar tab, the menu entries, the preferences. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from . import backend, host, operators, preferences, results, sizes, windows
from .jobs import Job, State
from .states import SPACE_KINDS

Context = bpy.types.Context
Layout = bpy.types.UILayout

_WRAP = 46  # letters of a line in a sidebar of common width
_PAGE = 100  # and in the preferences
_SAID_LINES = 8
_VERBS = {
    "fit": "Fitting",
    "extract": "Meshing",
    "read": "Reading",
    "learn": "Learning",
    "decode": "Meshing",
    "interpolate": "Meshing",
    "project": "Following",
    "complete": "Completing",
    "compare_with": "Comparing",
    "measure": "Measuring",
    "even_points": "Spreading points over",
    "render": "Rendering",
    "combine": "Making the",
    "overlap": "Comparing",
    "skeleton": "Finding the skeleton of",
    "space": "Searching the space round",
    "closest": "Searching",
    "body": "Making a",
    "load_model": "Meshing",
    "export": "Writing",
    "volume": "Filling the voxels of",
    "split_detail": "Meshing the base of",
    "detail_strength": "Meshing",
    "transfer_detail": "Meshing",
}


def wrapped(layout: Layout, text: str, icon: str = "NONE", width: int = _WRAP) -> None:
    """A text over as many lines as it needs: labels do not wrap."""
    line, first = "", True
    column = layout.column(align=True)
    for word in [*text.split(), ""]:
        if word and len(line) + len(word) + 1 <= width:
            line = f"{line} {word}".strip()
            continue
        if line:
            column.label(text=line, icon=icon if first else ("BLANK1" if icon != "NONE" else "NONE"))
        line, first = word, False


def letters(context: Context) -> int:
    """How many letters fit in one line of the region that is drawn."""
    region = context.region
    if region is None or not region.width:
        return _WRAP
    scale = context.preferences.system.ui_scale or 1.0
    return max(20, int(region.width / scale / 7.0) - 5)


class SdfPanel:
    """A panel of our tab in the sidebar of the 3D viewport."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = windows.TAB


class SDF_PT_fit(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_fit"
    bl_label = "Neural SDF"

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.sdf
        layout.use_property_split = True
        layout.use_property_decorate = False
        host.warm()
        _draw_status(layout)
        column = layout.column()
        column.prop(settings, "recipe")
        if (reason := _reason(context)) and settings.recipe == "auto":
            wrapped(column, _first_sentence(reason), "INFO", letters(context))
        column.prop(settings, "preset")
        row = layout.row()
        row.scale_y = 1.5
        row.operator("sdf.fit", text=_fit_text(context), icon="MESH_ICOSPHERE")
        layout.prop(settings, "hide_source", text="Hide Source")
        layout.operator_menu_enum("sdf.compare_with", "method", text="Compare With", icon="MOD_REMESH")
        draw_jobs(layout, lambda kind: kind not in SPACE_KINDS)
        draw_notice(layout, letters(context), lambda kind: kind not in SPACE_KINDS)


class SDF_PT_advanced(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_advanced"
    bl_label = "Advanced"
    bl_parent_id = "SDF_PT_fit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.sdf
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.prop(settings, "steps")
        column.prop(settings, "seconds")
        column = layout.column(align=True)
        column.prop(settings, "resolution")
        if sizes.measure(context.active_object)[0]:
            column.prop(settings, "voxel_size")
            vertices = sizes.expected_vertices(context.active_object, settings.cells)
            _aside(column, f"{settings.cells} cells, about {sizes.count(vertices)} vertices")
        column.prop(settings, "level")
        column = layout.column(align=True)
        column.prop(settings, "samples")
        column.prop(settings, "seed")
        column.prop(settings, "device")
        column = layout.column(heading="Source", align=True)
        column.prop(settings, "use_modifiers")
        column.prop(settings, "show_preview")


class SDF_PT_result(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_result"
    bl_label = "Result"

    @classmethod
    def poll(cls, context: Context) -> bool:
        return results.shown(context.active_object) is not None

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.sdf
        result = results.shown(context.active_object)
        row = layout.row(align=True)
        row.label(text=result.name, icon="OUTLINER_OB_MESH")
        source = results.source_of(result)
        if source is not None:
            hidden = not source.visible_get()
            row.operator("sdf.toggle_source", text="Source", icon="HIDE_ON" if hidden else "HIDE_OFF")
        _draw_figures(layout, result)
        if results.MODEL not in result:  # another method's mesh, to be compared with
            return
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.prop(settings, "resolution")
        column.prop(settings, "level")
        column.prop(settings, "wall")
        cells = settings.resolution or results.report(result).get("resolution") or settings.cells
        _aside(column, f"{cells} cells, about {sizes.count(sizes.expected_vertices(result, cells))} vertices")
        column.prop(settings, "certain")
        row = layout.row(align=True)
        row.operator("sdf.remesh", icon="MOD_REMESH")
        row.operator("sdf.continue_fit", icon="PLAY")


def _aside(layout: Layout, text: str) -> None:
    """A remark under a property, in the column of the values."""
    row = layout.row()
    row.active = False
    row.alignment = "RIGHT"
    row.label(text=text)


def _draw_status(layout: Layout) -> None:
    row = layout.row(align=True)
    jobs = host.runtime().jobs
    problem = None if jobs.ended else jobs.problem  # what has worked will again
    text = "Backend: not available" if problem else host.status()
    row.label(text=text, icon="ERROR" if problem else "CHECKMARK" if host.backend() else "BLANK1")
    row.operator("sdf.open_preferences", text="", icon="PREFERENCES")


def _fit_text(context: Context) -> str:
    chosen = operators.fittable(context) if context.mode == "OBJECT" else []
    if len(chosen) > 1:
        return f"Fit SDF ({len(chosen)} objects)"
    if len(chosen) == 1 and not chosen[0].select_get():
        return f"Fit SDF of {chosen[0].name} Again"
    return "Fit SDF"


def _reason(context: Context) -> str:
    """Why ``auto`` chose what it chose: of the running fit, else of the active object's last one."""
    job = host.runtime().jobs.active
    if job is not None and job.kind == "fit":
        return str(job.progress.get("reason") or "")
    result = results.of(context.active_object)
    if result is None:
        return "Chosen by the input when the fit starts"
    return str(results.report(result).get("reason") or "")


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].rstrip(".")


def draw_jobs(layout: Layout, shown: Callable[[str], bool]) -> None:
    """The jobs of the kinds that are ``shown``, with their progress; not those that follow a slider."""
    held = host.runtime()
    live = [j for j in held.jobs.jobs.values() if shown(j.kind) and not j.state.over and "receive" not in j.target]
    for job in held.waiting.values():
        if not shown(job.kind):
            continue
        what = "fit kept" if job.state is State.FAILED else "done"
        layout.label(text=f"{job.title}: {what}, placed when you leave this mode", icon="TIME")
    if not live:
        return
    box = layout.box().column()
    for job in live:
        if job.state is State.RUNNING:
            _draw_running(box, job)
        else:
            row = box.row(align=True)
            row.label(text=f"{job.title}: waiting{_for_what(held.jobs)}", icon="TIME")
            row.operator("sdf.cancel", text="", icon="X").job = job.id


def _for_what(jobs: Any) -> str:
    return "" if jobs.backend is not None else " for the backend"


def _draw_running(layout: Layout, job: Job) -> None:
    verb = _VERBS.get(job.kind, "Working on")
    layout.label(text=f"{verb} {job.title}", icon="SORTTIME")
    layout.progress(factor=float(job.progress.get("fraction") or 0.0), type="BAR", text=operators.progress_text(job))
    row = layout.row(align=True)
    if job.kind in operators.STOPPABLE:
        row.operator("sdf.stop", icon="CHECKMARK").job = job.id
    row.operator("sdf.cancel", icon="X").job = job.id


def draw_notice(layout: Layout, width: int, shown: Callable[[str], bool]) -> None:
    """What ended badly last, if it is of a kind that is ``shown``."""
    notice = host.runtime().notice
    if notice is None or not shown(notice.kind):
        return
    box = layout.box()
    wrapped(box, f"{notice.title}: {notice.error.message}", "ERROR", width)
    if notice.error.hint:
        wrapped(box, notice.error.hint, "BLANK1", width)
    row = box.row(align=True)
    row.operator("sdf.open_preferences", text="Preferences", icon="PREFERENCES")
    row.operator("sdf.open_log", icon="TEXT")


def _draw_figures(layout: Layout, result: Any) -> None:
    report = results.report(result)
    metrics = report.get("metrics") or {}
    scene, level = bpy.context.scene, report.get("level") or 0.0
    rows = [
        ("Vertices", f"{len(result.data.vertices):,}" if result.type == "MESH" else ""),
        ("Chamfer", sizes.length(metrics["chamfer"], scene) if metrics.get("chamfer") is not None else ""),
        ("Hausdorff", sizes.length(metrics["hausdorff"], scene) if metrics.get("hausdorff") is not None else ""),
        ("Right Side", _share((report.get("distance") or {}).get("sign_agreement"))),
        ("Watertight", {True: "yes", False: "no"}.get(report.get("result", {}).get("watertight"), "")),
        ("Offset", sizes.length(level, scene) if level else ""),
        ("Wall", sizes.length(report["wall"], scene) if report.get("wall") else ""),
        ("Recipe", _how(report)),
        ("Steps", f"{report['steps']:,}" if report.get("steps") else ""),
    ]
    box = layout.box().column(align=True)
    for name, text in rows:
        if text:
            split = box.split(factor=0.4)
            split.label(text=name)
            split.label(text=text)
    if report.get("certain"):
        whole = report["certain"].startswith("Nothing")  # else something is not in the mesh
        wrapped(box, _first_sentence(report["certain"]), "CHECKMARK" if whole else "ERROR", letters(bpy.context))
    for line in report.get("warnings") or ():
        wrapped(box, line, "ERROR", letters(bpy.context))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%} of its box"


def _how(report: dict[str, Any]) -> str:
    parts = [report.get("recipe", ""), report.get("preset", "")]
    return ", ".join(part for part in parts if part)


# --- menus -------------------------------------------------------------------------------------------------------


def _object_menu(self: Any, _context: Context) -> None:
    self.layout.separator()
    self.layout.operator_context = "INVOKE_DEFAULT"
    self.layout.operator("sdf.fit", icon="MESH_ICOSPHERE")
    self.layout.operator_menu_enum("sdf.compare_with", "method", icon="MOD_REMESH")


# --- preferences -------------------------------------------------------------------------------------------------


def draw_preferences(held: preferences.SDFPreferences, layout: Layout) -> None:
    """The page in Edit ▸ Preferences ▸ Add-ons."""
    layout.use_property_split = True
    column = layout.column()
    column.prop(held, "backend_python")
    if backend.from_variable():
        _aside(column, f"set by the environment: {backend.from_variable()}")
    column.prop(held, "worker_command")
    column.prop(held, "device")
    column.prop(held, "threads")
    column.prop(held, "warm")
    row = layout.row(align=True)
    row.operator("sdf.test_backend", icon="CONSOLE")
    row.operator("sdf.open_log", icon="TEXT")
    if backend.said() and backend.installation_progress() is None:
        _draw_said(layout)
    _draw_installation(held, layout)
    if backend.installation_progress() is not None:
        _draw_said(layout)
    column = layout.column(align=True)
    column.active = False
    column.label(text=f"Log: {preferences.log_file()}")


def _draw_said(layout: Layout) -> None:
    box = layout.box().column(align=True)
    for line in backend.said()[-_SAID_LINES:]:
        wrapped(box, line, width=_PAGE)


def _draw_installation(held: preferences.SDFPreferences, layout: Layout) -> None:
    progress = backend.installation_progress()
    if progress is not None:
        row = layout.row(align=True)
        row.progress(factor=progress[0], type="BAR", text=progress[1])
        row.operator("sdf.cancel_install", text="", icon="X")
        return
    row = layout.row(align=True)
    row.prop(held, "torch_build")
    row.operator("sdf.install_backend", icon="IMPORT")
    layout.prop(held, "with_peers")


_CLASSES = (SDF_PT_fit, SDF_PT_advanced, SDF_PT_result)
_MENUS = ("VIEW3D_MT_object", "VIEW3D_MT_object_convert")


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    for menu in _MENUS:
        getattr(bpy.types, menu).append(_object_menu)


def unregister() -> None:
    for menu in _MENUS:
        getattr(bpy.types, menu).remove(_object_menu)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
