"""What decoders think of foreign bytes reaches who sent them as `Unreadable`, and not the terminal or a log."""

import ctypes
import logging
import warnings

import PIL._imaging

LOGGERS = ("PIL", "tifffile")
LIBTIFF = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


def silence_decoders() -> None:
    """For this process, from now on; libtiff too, which would write to standard error past all of Python."""
    warnings.simplefilter("ignore")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    pillow = ctypes.CDLL(PIL._imaging.__file__)  # by which the libtiff is found that Pillow itself calls
    for setter in LIBTIFF:
        call = getattr(pillow, setter, None)  # a Pillow without libtiff reads no TIFF by it
        if call is not None:
            call.argtypes, call.restype = [ctypes.c_void_p], ctypes.c_void_p
            call(None)
