"""Training in processes of its own, forked from a server that has torch imported already."""

import multiprocessing
import os
import signal
import socket
import time

import torch

from zoo.run import load_run
from zoo.training.loop import train

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["processes", "peft", "transformers.models.llama", "transformers.models.clip"])


def _train(config, out, environment):
    os.environ.update(environment)
    torch.set_num_threads(1)
    train(load_run(config), out, resume=True, quiet=True)


def start(config, out, **environment):
    """Go on with the run of a saved config in a new process."""
    process = context.Process(target=_train, args=(config, out, environment), daemon=True)
    process.start()
    return process


def kill_after(process, file, num_lines, timeout=60):
    """SIGKILL once the metrics have this many lines; False if the process ended before."""
    end = time.monotonic() + timeout
    while process.is_alive() and time.monotonic() < end:
        if file.exists() and file.read_bytes().count(b"\n") >= num_lines:
            break
        time.sleep(0.001)
    assert time.monotonic() < end, "the process made no progress"
    alive = process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def train_on_ranks(config, out, num_ranks=2, timeout=90):
    """Data-parallel training over gloo, as torchrun would start it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": str(num_ranks),
        "OMP_NUM_THREADS": "1",  # else accelerate shares the cores out among these ranks alone
    }
    ranks = [start(config, out, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(num_ranks)]
    for rank in ranks:
        rank.join(timeout)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        if rank.is_alive():
            rank.kill()
    return codes
