"""Putting pictures and words together on black. Pillow is imported where it is used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Colour: TypeAlias = tuple[int, int, int]

_GAP_PX = 6
_CAPTION_PX = 22
_FONT_PX = 14
_WHITE: Colour = (255, 255, 255)


def caption(text: str, width: int) -> "Image":
    """A strip of this width in pixels with white text."""
    return words([(text, _WHITE)], width)


def words(coloured: Sequence[tuple[str, Colour]], width: int) -> "Image":
    """Coloured words from left to right; what does not fit begins a new line."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=_FONT_PX)
    places, x, y = [], _GAP_PX, 0
    for word, _ in coloured:
        length = round(font.getlength(word)) + 2 * _GAP_PX
        if x > _GAP_PX and x + length > width:
            x, y = _GAP_PX, y + _CAPTION_PX
        places.append((x, y))
        x += length
    strip = Image.new("RGB", (width, y + _CAPTION_PX))
    draw = ImageDraw.Draw(strip)
    for (word, colour), place in zip(coloured, places, strict=True):
        draw.text(place, word, fill=colour, font=font)
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
