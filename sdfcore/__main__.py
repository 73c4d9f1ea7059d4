"""``python -m sdfcore``: the same as the ``sdfcore`` command."""

from .cli import script

if __name__ == "__main__":
    script()
