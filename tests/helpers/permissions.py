"""Processes for which the permissions of files hold, whoever runs the tests."""

from __future__ import annotations

import ctypes
import os

__all__ = ["lose_rights"]

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def lose_rights() -> None:
    """As `preexec_fn`: what is executed next can open only what its user may; root itself may open all."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the right to open any file cannot be dropped")
