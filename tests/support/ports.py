"""Ports for what tests start."""

import random
import socket
from contextlib import ExitStack


def free_ports(count: int = 1) -> int:
    """Return a port that is free, with its followers up to `count`, for TCP and UDP.

    Below the ports that the kernel hands out by itself: those may be taken again before a server listens, or
    while a test has it stopped.
    """
    while True:
        base = random.SystemRandom().randrange(10_000, 32_000)
        try:
            with ExitStack() as stack:
                for port in range(base, base + count):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        taken = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        taken.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
