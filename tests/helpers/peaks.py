"""How much memory another process takes at most."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Peak", "peak_of"]

# What a process is said to have taken at most is no less than what the one that started it had. So a small
# one starts it, and tells; it also bounds what is asked for, so that no test fills a machine.
_LAUNCHER = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss]))
"""
_KB = 1 if sys.platform == "darwin" else 1024
_MOST = 1 << 31


class Peak(NamedTuple):
    """What became of a process.

    Attributes:
        status: its exit status.
        size: the most memory that was resident, in bytes.
        output: what it said on both of its streams.
    """

    status: int
    size: int
    output: str


def peak_of(command: Sequence[str], limit: int = _MOST) -> Peak:
    """Run a command to its end.

    Args:
        limit: the bytes of data that it can ask for; beyond them it gets a MemoryError.
    """
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(limit), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    status, size = json.loads(run.stdout)
    return Peak(status, size * _KB, run.stderr)
