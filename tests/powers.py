"""Root without the right to read everything, so that a test of permissions means something to it too."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# capabilities(7): CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; header version 3 has two words for each set.
READ_ALL = (1 << 1) | (1 << 2)
VERSION = 0x20080522


class Header(ctypes.Structure):
    """``cap_user_header_t``."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Sets(ctypes.Structure):
    """Half of ``cap_user_data_t``."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def permissions_count() -> Iterator[None]:
    """For this thread, and those that it starts, a file's mode decides, also when the user is root."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = Header(VERSION, 0), (Sets * 2)()

    def call(function: str) -> None:
        if getattr(libc, function)(ctypes.byref(header), ctypes.byref(sets)) != 0:
            raise OSError(ctypes.get_errno(), function)

    call("capget")
    before = sets[0].effective
    sets[0].effective = before & ~READ_ALL
    call("capset")
    try:
        yield
    finally:
        sets[0].effective = before
        call("capset")
