"""The classes of arguments."""

from .._signatures import CLASSES

globals().update(CLASSES)
__all__ = list(CLASSES)
