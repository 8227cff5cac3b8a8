"""One notebook in one process, started by `execute`: events as JSON lines on stdout, noise on stderr.

A process of its own, because CPU time of ended children can be had only from the
process that waited for them (getrusage), and because papermill changes directory.
"""

import ctypes
import json
import os
import re
import resource
import sys
import threading
import time
from contextlib import suppress

import psutil

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
PR_SET_CHILD_SUBREAPER = 36  # Linux: orphans of the kernel become ours, to be counted and ended


def kill_below(process: psutil.Process) -> None:
    """Kill all descendants of a process, also those that start meanwhile."""
    for _ in range(20):
        tree = running(process.children(recursive=True))
        if not tree:
            return
        for child in tree:
            with suppress(psutil.Error):
                child.kill()
        time.sleep(0.05)


def running(processes) -> list[psutil.Process]:
    """Those that have not ended."""

    def alive(process):
        with suppress(psutil.Error):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

    return [process for process in processes if alive(process)]


class Watch(threading.Thread):
    """Looks at the kernel's process tree twice a second: memory, time limit, and who was there."""

    def __init__(self, limit: float):
        super().__init__(daemon=True)
        self.deadline, self.parent = time.monotonic() + limit, os.getppid()
        self.peak, self.seen, self.timed_out = 0, set(), False

    def run(self):
        me = psutil.Process()
        while True:
            tree, total = me.children(recursive=True), 0
            for process in tree:
                with suppress(psutil.Error):
                    total += process.memory_info().rss
            self.seen.update(tree)
            self.peak = max(self.peak, total)
            if time.monotonic() > self.deadline:
                self.timed_out = True
                kill_below(me)
            if os.getppid() != self.parent:  # nobody is left to report to
                kill_below(me)
                os._exit(1)
            time.sleep(0.5)

    def leftovers(self) -> list[str]:
        """Processes that outlived the kernel by three seconds; they are killed."""
        everyone = self.seen.union(psutil.Process().children(recursive=True))
        _, left = psutil.wait_procs(running(everyone), timeout=3)
        names = []
        for process in running(left):
            with suppress(psutil.Error):
                names.append(f"{' '.join(process.cmdline())[:80]} (pid {process.pid})")
                process.kill()
        kill_below(psutil.Process())
        return names


def execute(spec: dict, emit, at: dict) -> str:
    """Run the notebook with papermill; returns what went wrong, or nothing.

    `at` is kept up to date: `k`, the number of the code cell, and `section`, the heading that it stands under.
    """
    from jupyter_client.kernelspec import NoSuchKernel
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    class Reporting(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, manager, kernel_name, **options):
            cells = [c for c in manager.nb.cells if c.cell_type == "code"]
            start = manager.cell_start

            def cell_start(cell, index, **more):
                if cell.cell_type == "markdown":
                    at["section"] = (HEADING.findall(cell.source) or [at["section"]])[-1]
                else:
                    at["k"] += 1
                    emit(k=at["k"], n=len(cells), section=at["section"])
                return start(cell, index, **more)

            manager.cell_start = cell_start
            return super().execute_managed_notebook(
                manager, kernel_name, iopub_timeout=60, **options
            )

    papermill_engines.register("book", Reporting)
    try:
        nb = execute_notebook(
            spec["notebook"],
            spec["output"],
            parameters=spec["parameters"],
            engine_name="book",
            cwd=spec["cwd"],
            progress_bar=False,
            start_timeout=120,
        )
    except PapermillExecutionError as error:
        traceback = ANSI.sub("", "\n".join(error.traceback)) or f"{error.ename}: {error.evalue}"
        return (
            f"cell {at['k']} raised {error.ename}: {error.evalue}\n--- the cell\n{error.source}\n"
            f"--- the traceback\n{traceback}"
        )
    except NoSuchKernel as error:
        return (
            f"there is no Jupyter kernel called {error.name!r}: install ipykernel, "
            'or set the kernel in the notebook\'s metadata to "python3"'
        )
    except RuntimeError as error:  # nbclient's DeadKernelError, or a kernel that never became ready
        where = f"in cell {at['k']}" if at["k"] else "before the first cell"
        return f"the kernel died {where} (out of memory, or a crash in native code): {error}"
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    if cells and cells[-1].execution_count is None:  # to papermill sys.exit() is a success
        return f"cell {at['k']} ended the notebook before its last cell"
    return ""


def main():
    spec, at = json.loads(sys.argv[1]), {"k": 0, "section": ""}
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what kernels and libraries print must not mix with the events

    def emit(**event):
        events.write(json.dumps(event) + "\n")

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    started = time.monotonic()
    watch = Watch(spec["limit"])
    watch.start()
    problem = execute(spec, emit, at)
    wall, watch.deadline = time.monotonic() - started, float("inf")
    left = watch.leftovers()
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # adds adopted orphans to the usage
            pass
    if watch.timed_out:
        problem = f"not done after {spec['limit']:.0f} s of wall time: killed in cell {at['k']}"
    elif left and not problem:
        problem = "left processes behind (now killed): " + ", ".join(left)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    emit(
        problem=problem,
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
        wall_seconds=round(wall, 2),
        peak_mb=round(max(largest, watch.peak) / 1e6),
    )


if __name__ == "__main__":
    main()
