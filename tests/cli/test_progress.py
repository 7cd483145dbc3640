import os
import pty
import subprocess
import sys

PROGRAM = """
from stepzero.cli._progress import working
with working("writing weights") as step:
    step(1, 2)
    step(2, 2)
print("result")
"""


def on_a_terminal(program):
    """Run a program whose stderr is a terminal; return stdout and what the terminal got."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not block:
            break
        seen += block
    out = run.stdout.read()
    run.stdout.close()
    os.close(ours)
    assert run.wait() == 0, seen
    return out, seen


def test_a_terminal_sees_what_is_being_done_and_stdout_stays_clean():
    out, seen = on_a_terminal(PROGRAM)
    assert out == b"result\n"
    assert b"writing weights" in seen
    assert b"\x1b[2K" in seen  # the display is wiped when the work is done


def test_a_pipe_sees_nothing():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert (run.stdout, run.stderr) == (b"result\n", b"")
