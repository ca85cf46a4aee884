"""From a predictor to a page that is served, and to its end, at which everything is deleted."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

from aunet.demo.jobs import Jobs, own_folder
from aunet.demo.server import DemoServer
from aunet.predict import Options, Predictor

log = logging.getLogger(__name__)


@contextlib.contextmanager
def serving(
    predictor: Predictor, options: Options, about: dict[str, str], port: int, most_bytes: int
) -> Iterator[DemoServer]:
    """A server that answers in a thread until the end, and then deletes everything.

    Args:
        predictor: Tells the AUs.
        options: How files are looked at.
        about: Values for the page: ``title``, ``note``.
        port: 0 for any that is free.
        most_bytes: Of an upload.

    Raises:
        ValueError: The port cannot be had.
    """
    with own_folder() as folder:
        jobs = Jobs(folder, predictor, options)
        try:
            with DemoServer(port, jobs, about, most_bytes) as server:
                thread = threading.Thread(target=server.serve_forever, name="demo", daemon=True)
                thread.start()
                try:
                    yield server
                finally:
                    server.shutdown()
                    thread.join()
        finally:
            jobs.close()


def serve(predictor: Predictor, options: Options, about: dict[str, str], port: int, most_bytes: int) -> None:
    """Serves the page until Ctrl-C or a signal to end; see ``serving``."""
    ended: SimpleQueue[None] = SimpleQueue()  # an Event's locks may be held where a signal comes in between
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.put(None))
    with serving(predictor, options, about, port, most_bytes) as server:
        log.info(f"{server.url} is open in browsers of this machine; Ctrl-C ends it and deletes all uploads")
        while ended.empty():  # a signal that reaches another thread wakes nobody; its handler runs here
            time.sleep(0.2)
    if server.jobs.is_working:  # a network at work cannot be stopped, and Python's own end may wait for it
        os._exit(0)  # everything is deleted
