"""OpenMP's threads beside other jobs."""

import os

SPIN_COUNT = "10000"  # about 0.5 ms; GNU's default is 300,000


def share_cores() -> None:
    """Shorten how long OpenMP threads spin while they wait for each other.

    While one spins, a thread that it waits for may need its core, as soon as another job has the
    other core. The gaps within a training step are shorter than what is left; without any spinning
    (OMP_WAIT_POLICY=PASSIVE) a small network pays for each with a wake-up, also on idle cores. The
    figures are those of benchmarks/contention.py. Results do not depend on it.

    To be called before PyTorch is imported, which loads OpenMP: GNU's, in its Linux wheels; others
    ignore the variable. What the user has set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
