"""Silence the warnings of image decoders; errors in untrusted files are reported as `Unreadable` instead."""

import ctypes
import logging
import warnings

import PIL._imaging

LOGGERS = ("PIL", "tifffile")
LIBTIFF = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


def silence_decoders() -> None:
    """Silence Pillow, tifffile, libtiff (which writes to standard error directly) and all Python warnings."""
    warnings.simplefilter("ignore")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    pillow = ctypes.CDLL(PIL._imaging.__file__)  # resolves the libtiff that Pillow links
    for setter in LIBTIFF:
        call = getattr(pillow, setter, None)  # None if Pillow was built without libtiff
        if call is not None:
            call.argtypes, call.restype = [ctypes.c_void_p], ctypes.c_void_p
            call(None)
