"""Entry point of the Blender extension: it has to lie beside the manifest.

The imports are inside the functions on purpose: pytest imports this file as a package, without Blender.
"""


def register() -> None:
    from . import blender_addon

    blender_addon.register()


def unregister() -> None:
    from . import blender_addon

    blender_addon.unregister()
