"""What is held while a process forks, with writers made up: no server, in processes of their own."""

import subprocess
import sys
import textwrap

import pytest

WRITER = """
    import os, signal, sys, threading, time
    from activity_tracker_hll.writer import lifecycle

    signal.alarm(30)  # ends whoever waits for ever

    class Writer:
        def __init__(self):
            self.lock, self.forks, self.interrupt = threading.RLock(), 0, False

        def locks(self):
            if self.interrupt:  # amid a fork, when some of the locks are held
                self.interrupt = False
                signal.raise_signal(signal.SIGUSR1)
            return [self.lock]

        def after_fork(self, parent):
            self.lock = threading.RLock()
            self.forks += 1

        def close_within(self):
            pass

    writers = [Writer(), Writer()]
    for writer in writers:
        lifecycle.register(writer)

    def wait_for(child):
        assert os.waitpid(child, 0)[1] == 0

    def fork():
        child = os.fork()
        if not child:
            os._exit(0)
        wait_for(child)

    def everything_is_free():
        # To other threads: this one may hold what it should not.
        def use():
            for writer in writers:
                assert writer.lock.acquire(timeout=10)
                writer.lock.release()
            fork()
            done.append(True)

        done = []
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        return bool(done)
"""


@pytest.mark.parametrize("child", ["ends", "goes on"])
@pytest.mark.parametrize("amid", [0, 1])
def test_a_fork_in_a_signal_handler_that_interrupts_a_fork(child, amid):
    """Where the handler's child goes on, it finishes the fork that was interrupted."""
    script = (
        WRITER
        + """
    interrupting = []

    def handle(*_):
        interrupting.append(os.fork())
        if not interrupting[0] and sys.argv[1] == "ends":
            os._exit(0)

    signal.signal(signal.SIGUSR1, handle)
    writers[int(sys.argv[2])].interrupt = True
    fork()
    assert everything_is_free()
    [child] = interrupting
    assert [writer.forks for writer in writers] == [0 if child else 1] * 2
    if child:
        wait_for(child)
    os._exit(0)
    """
    )
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), child, str(amid)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_exception_at_any_moment_of_a_fork():
    """As of Ctrl-C, after which the process forks all the same: nothing stays locked on either side."""
    script = (
        WRITER
        + """
    import itertools

    sys.unraisablehook = lambda _: None
    for moment in itertools.count():
        moments = itertools.count()

        def interrupt(frame, event, argument):
            if frame.f_code.co_filename not in (lifecycle.__file__, "<string>"):
                return None  # Python's own hooks leave things locked
            # Where lines begin it may be traced, but no signal comes.
            if event != "line" and next(moments) == moment:
                sys.settrace(None)
                raise KeyboardInterrupt
            return interrupt

        sys.settrace(interrupt)
        child = os.fork()
        sys.settrace(None)
        if not child:
            os._exit(not (everything_is_free() and all(writer.forks for writer in writers)))
        wait_for(child)
        assert everything_is_free()
        if next(moments) <= moment:
            break
    os._exit(0 if moment > 8 else 1)
    """
    )
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
