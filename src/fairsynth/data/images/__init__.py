"""Sets of images with a label and a sensitive attribute."""

from __future__ import annotations

from fairsynth.data.images.image_set import ImageSet
from fairsynth.data.images.named import load_images

__all__ = ["ImageSet", "load_images"]
