"""Work in several processes."""

import os
import signal
import subprocess
import sys
import time

from theorykit._numerics.workers import side_by_side

_BUSY = """
import os, time
from theorykit._numerics.workers import side_by_side

def tell():
    print(os.getpid(), flush=True)
    return os.getpid()

for _ in side_by_side(tell, [(), ()], 2):
    pass
print("waiting", flush=True)
time.sleep(600)
"""


def _gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_results_in_order():
    assert list(side_by_side(divmod, [(7, 3), (9, 2), (1, 5)], 2)) == [(2, 1), (4, 1), (0, 1)]


def test_results_of_one_job_need_no_other_process():
    assert list(side_by_side(os.getpid, [()], 1)) == [os.getpid()]


def test_workers_leave_when_their_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(line) for line in iter(parent.stdout.readline, "waiting\n")}
        assert workers
        assert not any(map(_gone, workers))
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60.0
    while time.monotonic() < until and not all(map(_gone, workers)):
        time.sleep(0.2)
    assert all(map(_gone, workers))
