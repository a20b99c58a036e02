"""A photograph in memory: its pixels, and all that its file needs to be written again as it was."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facesr.photos.colour import Pixels, strip_to_srgb, strips, to_eight_bits

# Of a picture that is read, by its header, before anything is decoded. Cameras of "100 megapixels" have up to 102:
# 11656x8742 and 11648x8736.
MAX_PIXELS = 105_000_000
# Pixels of a side that a format can hold. Source: ITU-T T.81 (JPEG), RFC 9649 (WebP); of HEIC and AVIF, what readers
# take: libavif's limit is 16384 squared.
LARGEST_SIDE = {"JPEG": 65535, "WEBP": 16383, "HEIC": 16384, "AVIF": 16384}


@dataclass(frozen=True)
class Encoding:
    """How a file was encoded, so that it can be encoded so again; each format uses its own.

    Attributes:
        tables: JPEG, the quantisation tables of Y, Cb and Cr, 64 numbers each in natural order; of the last one those
            that follow are copies.
        subsampling: JPEG, HEIC and AVIF, of chroma, as Pillow numbers it: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0.
        is_progressive: JPEG.
        is_rgb: JPEG, stored as RGB and not as YCbCr.
        is_lossless: WebP.
        quality: WebP, 1 to 100.
        bits: HEIC, 8, 10 or 12 a channel.
        colours: HEIC, primaries and transfer as ITU-T H.273 numbers them; of a picture with a profile they say nothing.
        compression: TIFF, the value of its tag: 1 is none, 5 LZW, 8 Deflate.
    """

    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int = 0
    is_progressive: bool = False
    is_rgb: bool = False
    is_lossless: bool = True
    quality: int = 100
    compression: int = 8
    bits: int = 8
    colours: tuple[int, int] = (1, 13)


@dataclass(frozen=True)
class Photo:
    """A photograph, upright, in the values of its file.

    Attributes:
        pixels: (H, W, 3) RGB, uint8 or uint16, in the colours of `icc`; three equal channels of a greyscale file.
        alpha: (H, W) of the same type, opaque where it is largest; None for none.
        is_grey: the file is greyscale, and is written greyscale again.
        format: "JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIC" or "AVIF".
        exif: the EXIF block from its TIFF header on, with orientation 1 and without thumbnail. Of a TIFF file: the
            tags of its directory that are not about the layout of the file.
        icc: the colour profile.
        xmp: the XMP packet of a JPEG, WebP, HEIC or AVIF file; PNG has it among `chunks`, TIFF in `exif`.
        dpi: across and down, of JPEG and BMP.
        comment: of JPEG.
        chunks: of PNG, types and contents of those kept as they are.
        encoding: how the file was encoded.
        note: what its owner is told of the reading; empty for nothing.
    """

    pixels: Pixels
    alpha: Pixels | None
    is_grey: bool
    format: str
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    encoding: Encoding = field(default_factory=Encoding)
    note: str = ""

    @property
    def depth(self) -> int:
        """Bits a channel, 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def largest_side(self) -> int | None:
        """The most pixels that a side may have in a file of this format, None where pictures in memory fit anyway."""
        return LARGEST_SIDE.get(self.format)

    @property
    def holds_no_colour(self) -> bool:
        """Whether all channels are equal, in a greyscale file or in another one."""
        if self.is_grey:
            return True
        parts = (self.pixels[rows] for rows in strips(*self.pixels.shape[:2]))
        return all(bool((part == part[:, :, :1]).all()) for part in parts)

    def srgb(self) -> NDArray[np.uint8]:
        """Returns the picture as a page would show it, uint8 (H, W, 3): sRGB, 8 bits, transparency over white."""
        convert = strip_to_srgb(self.icc, self.is_grey)
        shown = np.empty(self.pixels.shape, np.uint8)
        for rows in strips(*self.pixels.shape[:2]):
            strip = convert(to_eight_bits(self.pixels[rows]))
            if self.alpha is not None:
                alpha = to_eight_bits(self.alpha[rows])[..., None].astype(np.uint16)
                strip = ((strip * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
            shown[rows] = strip
        return shown
