"""The opening of a Ray cluster for `--on ray`: Ray is started here or reached at its address, and its workers are hired."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lmprog.errors import InfrastructureError, LmprogError, UsageError
from lmprog.extras import require
from lmprog.runners.ray import START_TIMEOUT, RayRunner
from lmprog.runners.ray_process import process_as_it_was
from lmprog.version import __version__

REACH_TIMEOUT = 10.0
"""Seconds in which a cluster must answer at its address."""
STORE_BYTES = 256 * 2**20
"""Bytes of the object store where Ray is started here; programs and results take little."""
LEFT_OUT = [".env", ".git", "runs", "*.sqlite", "*.safetensors"]
"""Files of the program's folder that are not sent to the nodes of a cluster."""


@contextmanager
def on_ray(address: str | None, workers: int | None, folder: Path) -> Iterator[RayRunner]:
    """Return a context that connects to the Ray cluster at `address` (None: starts Ray on this machine), starts the
    workers, and yields their runner.

    `workers` is their number (None: one for each CPU), `folder` that of the program. All ends with the block; a connection
    that was there before stays. Raises MissingExtra where Ray is not installed, UsageError for an address of Ray's client,
    too many workers, or nodes with another version of lmprog, and InfrastructureError where the cluster cannot be reached
    or the workers do not start in time.
    """
    require(("ray",), "--on ray")
    import ray

    if address is not None and address.startswith(("//", "ray://")):
        raise UsageError(
            "an address that begins with ray:// is one of Ray's client; start lmprog on a node of the cluster, as by "
            "`ray job submit`, with --on ray:auto or --on ray:HOST:PORT"
        )
    with process_as_it_was(), ExitStack() as at_end:
        if not ray.is_initialized():
            _connect(address, workers, folder)
            at_end.callback(ray.shutdown)
        room = max(1, int(ray.cluster_resources().get("CPU", 0)))
        if workers is not None and workers > room:
            raise UsageError(f"the Ray cluster has {room} CPUs, one for each worker; ask for at most {room} workers")
        with _hired(workers or room, folder) as runner:
            yield runner


def _connect(address: str | None, workers: int | None, folder: Path) -> None:
    import ray

    # It would report what is run here to its makers, over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Data that git ignores is part of a program all the same.
    os.environ.setdefault("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            cpus = max(workers or 0, os.cpu_count() or 1)
            # RAY_ADDRESS would name a cluster, and "local" always starts one of its own.
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
        else:
            _reach(address)
            environment = {"working_dir": str(folder), "excludes": LEFT_OUT}
            ray.init(address, runtime_env=environment, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"to the Ray cluster at {address}" if address is not None else "Ray on this machine"
        verb = "cannot connect" if address is not None else "cannot start"
        raise InfrastructureError(f"{verb} {where}: {str(error).strip().splitlines()[0]}") from error


def _reach(address: str) -> None:
    """Raise OSError where nobody listens at the address of a cluster: Ray itself would try for many minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT).close()


@contextmanager
def _hired(workers: int, folder: Path) -> Iterator[RayRunner]:
    """Return a context that starts workers, waits until all are ready, and yields their runner; they end with the block.
    Raises InfrastructureError where they do not start within START_TIMEOUT, LmprogError where one fails, UsageError where
    one has another version of lmprog.
    """
    import ray
    from ray import exceptions

    runner = RayRunner(workers, folder)
    try:
        ready = [runner.hire(index) for index in range(workers)]
        try:
            versions = ray.get(ready, timeout=START_TIMEOUT)
        except exceptions.GetTimeoutError:
            started = len(ray.wait(ready, num_returns=workers, timeout=0)[0])
            raise InfrastructureError(
                f"{started} of {workers} workers have started on the Ray cluster within {START_TIMEOUT:g} s; ask for fewer, or "
                "wait until it has room"
            ) from None
        except exceptions.RayError as error:
            raise LmprogError(f"a worker cannot start on the Ray cluster: {_first_line(error)}") from error
        other = next((version for version in versions if version != __version__), None)
        if other is not None:
            raise UsageError(
                f"a node of the Ray cluster has lmprog {other}, and this is {__version__}; install the same on all"
            )
        yield runner
    finally:
        runner.close()


def _first_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).strip().splitlines()) if line.strip()), type(error).__name__)
