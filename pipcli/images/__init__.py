"""Files ⇄ arrays: `Image`, reading, writing, and finding images in folders.

Codec libraries are imported when a file needs them, so that this package is quick to import.
"""

import logging

from pipcli.images.discovery import Found, find_images
from pipcli.images.formats import FORMATS, SUFFIXES
from pipcli.images.image import Image, JpegCoding, Metadata
from pipcli.images.limits import MAX_PIXELS
from pipcli.images.reading import decode_image, read_image
from pipcli.images.writing import Wishes, encode_image, write_image

# The codecs log what they find odd in a file. Without any handler Python would put that on stderr, beside
# the one line that a bad file gets; whoever configures logging still sees it.
for _codec in ("PIL", "imagecodecs", "tifffile"):
    logging.getLogger(_codec).addHandler(logging.NullHandler())

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Found",
    "Image",
    "JpegCoding",
    "Metadata",
    "Wishes",
    "decode_image",
    "encode_image",
    "find_images",
    "read_image",
    "write_image",
]
