"""Work done side by side: by processes of this machine, or by a Ray cluster. No torch here.

Whatever becomes of one task, the others are done: a process that is killed (out of memory, say) costs its own task.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from .errors import EngineError, InputError, SdfError

Task = dict[str, Any]  # plain values, so that any engine can send them
Work = Callable[[Task], dict[str, Any]]
Outcome = dict[str, Any] | SdfError
Engine = Callable[[Work, Mapping[str, Task], int], Iterator[tuple[str, Outcome]]]

_DIED = "The process ended without a word; the system may have run out of memory."
_CURE = "Take fewer --workers, --samples, a smaller --resolution or preset."


def local(work: Work, tasks: Mapping[str, Task], workers: int) -> Iterator[tuple[str, Outcome]]:
    """What ``work`` makes of each of ``tasks``, in the order in which they end, by ``workers`` processes.

    If a process dies, those that were under way are done again one at a time, so that it is known which one it was.
    Ending the iteration, or the death of this process, ends them all.
    """
    waiting, alone = deque(tasks), deque[str]()
    while waiting or alone:
        names, width = (alone, 1) if alone else (waiting, workers)
        under_way: list[str] = []
        try:
            yield from _crew(work, tasks, names, width, under_way)
        except BrokenProcessPool:
            if width == 1:
                yield under_way[0], EngineError(_DIED, _CURE)
            else:
                alone.extend(under_way)


def _crew(
    work: Work, tasks: Mapping[str, Task], names: deque[str], width: int, under_way: list[str]
) -> Iterator[tuple[str, Outcome]]:
    """Works ``names`` off. ``under_way`` is kept true, for whoever catches the :class:`BrokenProcessPool`."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(width, mp_context=context, initializer=_begin, initargs=(theirs, _share(width)))
    running: dict[Future[dict[str, Any]], str] = {}
    try:
        while names or running:
            while names and len(running) < width:
                name = names.popleft()
                under_way.append(name)
                running[pool.submit(work, tasks[name])] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = _outcome(future)
                name = running.pop(future)
                under_way.remove(name)
                yield name, outcome
    finally:
        if running:
            ours.close()  # ends the processes, whatever they are doing
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _outcome(future: Future[dict[str, Any]]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # noqa: BLE001 - one task's trouble is not the others'
        return _as_error(error)


def _as_error(error: BaseException) -> SdfError:
    if isinstance(error, SdfError):
        return error
    return EngineError(f"Unexpected {type(error).__name__}: {error}", "Fit it alone with --debug to see where.")


def _share(width: int) -> int:
    """Threads for each of ``width`` processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, (min(cores, int(given)) if given.isdigit() and int(given) else cores) // width)


def _begin(pipe: Connection, threads: int) -> None:
    """In a new process: no more threads than its share, and an end when nobody holds the other end of ``pipe``."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded

    def last() -> None:
        try:
            pipe.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=last, daemon=True).start()


def ray(address: str | None = None, *, gpus: float = 0.0) -> Engine:
    """The engine that hands tasks to a Ray cluster: the one at ``address``, or one of this machine.

    Files are read and written by the cluster's machines, so folders must be shared and of the same name everywhere.

    Args:
        gpus: share of a graphics card for each task.
    Raises:
        InputError: Ray is not installed, or there is no cluster at ``address``.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise InputError("Ray is not installed.", "Install it with: pip install 'sdfcore[cluster]'.") from error

    def engine(work: Work, tasks: Mapping[str, Task], workers: int) -> Iterator[tuple[str, Outcome]]:
        own = not cluster.is_initialized()
        if own:
            try:
                cluster.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
            except ConnectionError as error:
                raise InputError(
                    f"There is no Ray cluster at {address}.", "Start one with 'ray start --head'."
                ) from error
        remote = cluster.remote(num_gpus=gpus, max_retries=0)(work)
        names = deque(tasks)
        running: dict[Any, str] = {}
        try:
            while names or running:
                while names and len(running) < workers:
                    name = names.popleft()
                    running[remote.remote(tasks[name])] = name
                for done in cluster.wait(list(running), num_returns=1)[0]:
                    yield running.pop(done), _of_ray(cluster, done)
        finally:
            for left in running:
                cluster.cancel(left, force=True)
            if own:
                cluster.shutdown()

    return engine


def _of_ray(cluster: Any, reference: Any) -> Outcome:
    try:
        found: dict[str, Any] = cluster.get(reference)
    except cluster.exceptions.WorkerCrashedError:
        return EngineError(_DIED, _CURE)
    except Exception as error:  # noqa: BLE001 - one task's trouble is not the others'
        return _as_error(getattr(error, "cause", None) or error)
    return found
