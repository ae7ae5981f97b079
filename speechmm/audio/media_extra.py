"""Tells whether the package is installed that decodes media files; quick to import."""

from functools import cache
from importlib.util import find_spec

INSTALL = "pip install 'speechmm[media]'"
"""How the package comes that decodes them."""


@cache
def media_installed() -> bool:
    """Whether media files can be read."""
    return find_spec("av") is not None
