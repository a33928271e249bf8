"""A program that runs one embedded server for as long as some process uses its directory.

    python _guardian.py DIRECTORY TEMPORARY(0|1) SERVER ARGUMENTS...

There are three parties, and two locks that the kernel takes back from whoever dies, however it dies:

- ``users.lock`` is held shared by every process that uses the directory (and its forks). The
  guardian waits for it exclusively: then nobody is left, and it stops the server.
- ``server.lock`` is held by the server itself, which inherits it: never two servers on one file.

It writes one word. ``taken``: the directory already has a server. ``started``: it goes on in the
background, and what fails from here on is in the server's log. If it writes none, standard error says why.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading

STARTED, TAKEN = "started", "taken"
PATIENCE_S = 60


def main(directory: str, temporary: str, *server: str) -> int:
    """Run the program; returns its exit status."""
    forget_the_caller()
    try:
        server_lock = os.open(f"{directory}/server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(server_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return say(TAKEN)
        users_lock = os.open(f"{directory}/users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        log = os.open(f"{directory}/server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with contextlib.suppress(FileNotFoundError):  # older versions made it as their caller's umask was
            os.chmod(f"{directory}/appendonlydir", 0o700)  # noqa: PTH101 (pathlib takes long to load)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if os.fork():
        return say(STARTED)
    # A session of its own, as an interrupt typed at the terminal is not meant for the server; and no
    # directory of the caller's, which may want to remove it.
    os.setsid()
    os.chdir("/")
    for standard in range(3):
        os.dup2(log, standard)
    return run(directory, temporary == "1", server, server_lock, users_lock)


def forget_the_caller() -> None:
    """Undo what children inherit and a server cannot live with.

    With SIGTERM blocked it could not be asked to end; with SIGCHLD ignored it would not learn that the
    process which rewrites its file has ended; with another umask others could read its files.
    """
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def run(directory: str, temporary: bool, server: tuple[str, ...], server_lock: int, users_lock: int) -> int:
    """Run the server until nobody uses it; then delete the directory, if that is a temporary one."""
    try:
        # A limit of the size of files (SIGXFSZ, which Python ignores) must not kill it either: it can refuse.
        process = subprocess.Popen(  # noqa: S603 (the command our own package made, no shell)
            server, cwd=directory, pass_fds=[server_lock], restore_signals=False
        )
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    os.close(server_lock)
    waiting = threading.Thread(target=wait_for_users, args=(users_lock, process, temporary), daemon=True)
    waiting.start()
    process.wait()
    if temporary:
        waiting.join()  # if the server ended by itself, its user reads in the log why
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def wait_for_users(users_lock: int, process: "subprocess.Popen[bytes]", temporary: bool) -> None:
    """End the server once no process uses the directory; it writes everything first, if that is to stay.

    One that cannot save what it was told to save refuses to end when it is asked: what is to stay is in its
    append-only file by then.
    """
    # The lock is kept until this process ends: whoever comes meanwhile waits, and then starts a new server.
    fcntl.flock(users_lock, fcntl.LOCK_EX)
    if not temporary:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
    process.kill()  # no more than a question to who has ended


def say(word: str) -> int:
    """Tell the caller what became of it; returns the exit status."""
    sys.stdout.write(word)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
