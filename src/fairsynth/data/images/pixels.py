"""Where pixels come from: arrays in memory or mapped from a file, folders of pictures, strokes that are tinted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fairsynth.errors import DataError, MissingDependencyError

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]

#: Channels of the modes that a picture may have.
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
#: A picture of more pixels than this is taken for a decompression bomb.
MAX_PIXELS = 1 << 26
#: How much of it is shown when a picture is laid on white: these modes have transparency.
SEE_THROUGH = ("RGBA", "LA", "PA", "La", "RGBa")
#: Modes of more than 8 bits a channel. Turned into 8 bits they are cut off at 255, which leaves white.
DEEP = ("I", "F")
#: The EXIF tag that says how a camera was held, and its values at which height and width change places.
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)


class Source(Protocol):
    """Pictures of one size, read by number."""

    @property
    def shape(self) -> Shape:
        """Height, width and channels."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return the pictures of these numbers, uint8 ``(k, height, width, channels)``."""


class ArraySource:
    """Pictures of an array, which may be mapped from a file.

    Parameters
    ----------
    array : np.ndarray
        uint8 ``(n, height, width)`` or ``(n, height, width, channels)``.
    where : str
        Names the array in messages.

    Raises
    ------
    DataError
        If it is not such an array.
    """

    def __init__(self, array: np.ndarray, where: str = "images") -> None:
        if array.dtype != np.uint8:
            raise DataError(
                f"{where}: the pixels are of dtype {array.dtype}, and uint8 (0 to 255) is needed; "
                "scale and round them: (255 * images).round().astype('uint8')."
            )
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim != 4 or 0 in array.shape[1:] or array.shape[3] not in CHANNELS.values():
            raise DataError(
                f"{where}: an array of shape {array.shape} is no set of images; (n, height, width) or "
                "(n, height, width, channels) with 1, 3 or 4 channels is needed."
            )
        self._array = array

    @property
    def shape(self) -> Shape:
        """Height, width and channels."""
        _, height, width, channels = self._array.shape
        return height, width, channels

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._array)

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return copies of pictures."""
        return np.asarray(self._array[rows])


class TintedSource:
    """Grey strokes, each in a colour.

    Parameters
    ----------
    strokes : Source
        Of one channel: how much colour each pixel takes.
    colours : np.ndarray
        uint8 ``(colours, 3)``.
    codes : np.ndarray
        Colour of each picture, int64 ``(n,)``.
    """

    def __init__(self, strokes: Source, colours: Pixels, codes: npt.NDArray[np.int64]) -> None:
        self._strokes, self._colours, self._codes = strokes, colours.astype(np.uint16), codes

    @property
    def shape(self) -> Shape:
        """Height, width and three channels."""
        return (*self._strokes.shape[:2], 3)

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._codes)

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return tinted pictures."""
        grey = self._strokes.read(rows)[..., :1].astype(np.uint16)
        tinted = (grey * self._colours[self._codes[rows]][:, None, None] + 127) // 255
        return tinted.astype(np.uint8)


class FolderSource:
    """Pictures that are files, opened when they are read.

    Parameters
    ----------
    paths : sequence of path
        One a picture.
    mode : {"L", "RGB", "RGBA"}
        What each is turned into.
    size : tuple of int
        Height and width that each is brought to.
    """

    def __init__(self, paths: Sequence[Path], mode: str, size: tuple[int, int]) -> None:
        self._paths, self._mode, self._size = list(paths), mode, size

    @property
    def shape(self) -> Shape:
        """Height, width and channels."""
        return (*self._size, CHANNELS[self._mode])

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._paths)

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return pictures.

        Raises
        ------
        DataError
            Naming the file that cannot be read.
        """
        pictures = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, row in enumerate(rows):
            pictures[place] = read_picture(self._paths[row], self._mode, self._size)
        return pictures


def read_picture(path: Path, mode: str, size: tuple[int, int]) -> Pixels:
    """Return one picture, uint8 ``(height, width, channels)``.

    A picture of another shape is cut to the wanted ratio around its middle, and scaled. One that a camera took lying on
    its side is set upright, and a transparent one is laid on white where the mode has no transparency.

    Raises
    ------
    DataError
        If the file is no picture, is cut off, is larger than a picture may be, or has more than 8 bits a channel.
    """
    from PIL import ImageOps

    with _opened(path) as picture:
        _refuse_deep(path, picture.mode)
        try:
            turned = ImageOps.exif_transpose(picture)
            if mode != "RGBA" and (turned.mode in SEE_THROUGH or "transparency" in turned.info):
                clear = turned.convert("RGBA")
                ground = pillow().new("RGBA", clear.size, "white")
                turned = pillow().alpha_composite(ground, clear)
            turned = turned.convert(mode)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise DataError(f"{path}: the picture is cut off or damaged ({_said(error)}).") from error
        if (turned.height, turned.width) != size:
            turned = ImageOps.fit(turned, (size[1], size[0]))
        return np.asarray(turned, dtype=np.uint8).reshape(*size, CHANNELS[mode])


def look_at(path: Path) -> tuple[str, tuple[int, int]]:
    """Return mode and (height, width), set upright, that a file says it has, without reading its pixels.

    Raises
    ------
    DataError
        If the file is no picture, is larger than a picture may be, or has more than 8 bits a channel.
    """
    with _opened(path) as picture:
        _refuse_deep(path, picture.mode)
        try:
            lying = _exif(picture).get(ORIENTATION) in LYING
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise DataError(f"{path}: the picture is cut off or damaged ({_said(error)}).") from error
        height, width = int(picture.height), int(picture.width)
        return str(picture.mode), (width, height) if lying else (height, width)


def _exif(picture: Any) -> Any:
    if picture.format != "PNG":
        return picture.getexif()
    found = pillow().Exif()  # of a PNG file getexif would read all pixels, to find what may stand behind them
    if "exif" in picture.info:
        found.load(picture.info["exif"])
    return found


def _refuse_deep(path: Path, mode: str) -> None:
    if mode.split(";")[0] in DEEP:
        raise DataError(f"{path}: it has more than 8 bits a channel (mode {mode}); save it with 8 bits.")


def _opened(path: Path) -> Any:
    image = pillow()
    if path.exists() and not path.is_file():  # a named pipe would be waited for
        raise DataError(f"{path}: this is no file but a folder or a device.")
    try:
        picture = image.open(path, formats=("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"))
    except image.DecompressionBombError as error:
        raise _bomb(path) from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.") from error
    except image.UnidentifiedImageError as error:
        raise DataError(
            f"{path}: this is no picture of a known kind, or it is cut off at its start."
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{path}: this is no picture that can be read ({_said(error)}).") from error
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise _bomb(path)
    return picture


def _bomb(path: Path) -> DataError:
    return DataError(f"{path}: the picture says it has more than {MAX_PIXELS:,} pixels; it is not opened.")


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def pillow() -> Any:
    """Return the module that reads picture files.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "picture files are read and written with Pillow, which is not installed: pip install pillow."
        ) from error
    return Image
