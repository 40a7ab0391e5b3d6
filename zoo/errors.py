"""The exception whose message is written for a person."""


class ZooError(Exception):
    """Something a person can mend: the message says what was found, what was expected and what to type next.

    The command prints the message on one line and exits with status 2; a traceback is shown with `--debug` alone.
    """
