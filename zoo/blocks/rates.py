"""Schedules of learning rates that rooms share."""


def falling_rate(begin: int, iterations: int, iteration: int) -> float:
    """Factor of the learning rate in a 0-based iteration: 1 up to `begin`, then down a straight line.

    Args:
        begin: the last iteration at the full rate.
        iterations: how many it takes from there to 0; with 0 the rate never falls.
        iteration: the present one.
    """
    return 1.0 if iterations == 0 else min(1.0, max(0.0, 1 - (iteration - begin) / iterations))
