"""Seeds of tests that roll dice: printed, so that a failure can be repeated."""

import os
import random


def new_seed() -> str:
    """Return a seed and print it: pytest shows it with a failure. FLEETWARD_SEED=… repeats that run."""
    seed = os.environ.get("FLEETWARD_SEED") or f"{random.SystemRandom().getrandbits(48):012x}"
    print(f"seed: FLEETWARD_SEED={seed}")  # noqa: T201 - what pytest shows of a test that failed
    return seed
