"""Putting pictures and words together on black. Pillow is imported where it is used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Colour: TypeAlias = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (230, 80, 60),
    (86, 180, 233),
    (240, 228, 66),
    (60, 190, 120),
    (204, 121, 240),
    (245, 160, 30),
    (120, 140, 255),
    (255, 170, 190),
)
"""Colours of the labels 1, 2, ...; they repeat."""

_GAP_PX = 6
_CAPTION_PX = 22
_FONT_PX = 14
_WHITE: Colour = (255, 255, 255)


def caption(text: str, width: int) -> "Image":
    """A strip of this width in pixels with white text."""
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, _CAPTION_PX))
    ImageDraw.Draw(strip).text((_GAP_PX, 0), text, fill=_WHITE, font=ImageFont.load_default(size=_FONT_PX))
    return strip


def beside(images: "Sequence[Image]") -> "Image":
    """Pictures from left to right, centred on one line."""
    from PIL import Image

    width = sum(image.width for image in images) + _GAP_PX * (len(images) - 1)
    picture = Image.new("RGB", (width, max(image.height for image in images)))
    lefts = [0, *np.cumsum([image.width + _GAP_PX for image in images])]
    for image, left in zip(images, lefts, strict=False):
        picture.paste(image, (int(left), (picture.height - image.height) // 2))
    return picture


def below(images: "Sequence[Image]") -> "Image":
    """Pictures from top to bottom, flush left."""
    from PIL import Image

    picture = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)))
    tops = [0, *np.cumsum([image.height for image in images])]
    for image, top in zip(images, tops, strict=False):
        picture.paste(image, (0, int(top)))
    return picture
