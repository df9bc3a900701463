"""The node as a process: its log cannot be forged, filled or stalled; its memory stays together."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.nodes.process import log as module
from vla_pruner_ros.nodes.process.log import MAX_LENGTH, Log, printable


class Recorder:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.debug = self.info = self.warning = self.error = self.fatal = self.lines.append


@given(st.text(max_size=3000))
def test_a_line_is_one_line_and_short(text):
    line = printable(text)
    assert line.isprintable()
    assert len(line) <= MAX_LENGTH + 3


def test_a_forged_line_shows_what_it_is():
    forged = "frame\n[INFO] [1.0] [vla_pruner]: All is well\x1b[2J"
    assert printable(forged) == r"frame\n[INFO] [1.0] [vla_pruner]: All is well\x1b[2J"


def test_a_flood_is_cut_and_counted(monkeypatch):
    """A name that differed each time wrote 200 kB a second."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    recorder = Recorder()
    log = Log(recorder)
    for number in range(1000):
        log.warning(f"in frame '{number}'")
    assert len(recorder.lines) == module.BURST
    now[0] += 1.0
    log.error("afterwards")
    assert recorder.lines[-2:] == ["950 lines were left out: too many at once", "afterwards"]


def test_a_traceback_keeps_its_lines_but_no_escapes():
    recorder = Recorder()
    Log(recorder).traceback("first\nsecond \x1b[2J")
    assert recorder.lines == ["first\nsecond \\x1b[2J"]


WRITER = """
import os, sys, time
from vla_pruner_ros.nodes.process.terminal import OutputRelay
OutputRelay().start()
began = time.monotonic()
for number in range(3000):
    print("x" * 1000)
    os.write(2, b"y" * 1000) if number < 100 else print("z" * 1000, file=sys.stderr)
print("last words", file=sys.stderr)
open(sys.argv[1], "w").write(str(time.monotonic() - began))
"""


def test_a_writer_never_waits_for_a_reader_that_does_not_read(tmp_path):
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "seconds")],
            stdout=writing,
            stderr=writing,
        )
        began = time.monotonic()
        assert process.wait(20.0) == 0
        assert time.monotonic() - began < 15.0
        assert float((tmp_path / "seconds").read_text()) < 5.0
    finally:
        os.close(reading)
        os.close(writing)


def test_a_reader_that_reads_gets_everything_in_order():
    script = (
        "import sys\n"
        "from vla_pruner_ros.nodes.process.terminal import OutputRelay\n"
        "OutputRelay().start()\n"
        "for number in range(2000):\n"
        "    print(number, file=sys.stdout if number % 2 else sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.stdout.split() == [str(number) for number in range(2000)]


ARENAS = """
import ctypes, sys, threading
from vla_pruner_ros.nodes.process.host_memory import limit_arenas
if sys.argv[1] == "limited":
    limit_arenas()
barrier = threading.Barrier(16)
def run():
    kept = [bytearray(10_000) for _ in range(20)]
    barrier.wait()
threads = [threading.Thread(target=run) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
"""


def arenas(how: str) -> int:
    environment = {name: v for name, v in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", ARENAS, how]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_all_threads_share_two_arenas():
    """Each life of the node left memory in arenas that nobody used again."""
    assert arenas("unlimited") > 2
    assert arenas("limited") <= 2


HEAP = """
import ctypes, sys
from vla_pruner_ros.nodes.process.host_memory import map_large_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "mapped":
    map_large_blocks()
libc.free(libc.malloc(30 * 2**20))  # from now on, glibc would put such blocks into the heap
block = libc.malloc(20 * 2**20)
heap = next(line for line in open("/proc/self/maps") if line.endswith("[heap]\\n"))
low, high = (int(end, 16) for end in heap.split()[0].split("-"))
print(low <= block < high)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_the_weights_of_one_policy_after_another_stay_out_of_the_heap():
    """Resident memory grew by 50 MiB an hour with a configure every half minute."""

    def lies_in_heap(how: str) -> str:
        environment = {n: v for n, v in os.environ.items() if not n.startswith("MALLOC_")}
        command = [sys.executable, "-c", HEAP, how]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        return done.stdout.strip()

    assert lies_in_heap("as usual") == "True"
    assert lies_in_heap("mapped") == "False"
