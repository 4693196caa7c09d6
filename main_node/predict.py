"""Where `read_image` was before; it is part of the public names."""

from .commands.predict import read_image

__all__ = ["read_image"]
