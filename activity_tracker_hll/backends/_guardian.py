"""A program that runs one embedded server for as long as some process uses its directory.

    python _guardian.py DIRECTORY TEMPORARY(0|1) SERVER ARGUMENTS...

There are three parties, and two locks that the kernel takes back from whoever dies, however it dies:

- ``users.lock`` is held shared by every process that uses the directory (and its forks). The
  guardian waits for it exclusively: then nobody is left, and it stops the server.
- ``server.lock`` is held by the server itself, which inherits it: never two servers on one file.

If the directory already has a server, it ends at once, with exit status 3. Otherwise it goes on in the
background, and the exit status of the foreground process is 0.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import threading

STARTED, TAKEN = 0, 3
PATIENCE_S = 60


def main(directory: str, temporary: str, *server: str) -> int:
    """Run the program; returns its exit status."""
    server_lock = os.open(f"{directory}/server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(server_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return TAKEN
    if os.fork():
        return STARTED
    # A session of its own, as an interrupt typed at the terminal is not meant for the server.
    os.setsid()
    log = os.open(f"{directory}/server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    process = subprocess.Popen(  # noqa: S603 (the command our own package made, no shell)
        server, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[server_lock]
    )
    os.close(server_lock)
    for standard in range(3):
        os.dup2(log, standard)
    threading.Thread(target=wait_for_users, args=(directory, process, temporary), daemon=True).start()
    process.wait()
    if temporary == "1":
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def wait_for_users(directory: str, process: "subprocess.Popen[bytes]", temporary: str) -> None:
    """End the server once no process uses the directory; it writes everything first, if that is to stay.

    One that cannot save what it was told to save refuses to end when it is asked: what is to stay is in its
    append-only file by then.
    """
    # The lock is kept until this process ends: whoever comes meanwhile waits, and then starts a new server.
    users = os.open(f"{directory}/users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(users, fcntl.LOCK_EX)
    if temporary != "1":
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
    process.kill()  # no more than a question to who has ended


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
