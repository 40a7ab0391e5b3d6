"""The exception of the data side; its message is written for a person."""


class DataError(ValueError):
    """Data or an argument about data that a person can mend.

    The message says what was found, what was expected and what to type next.
    """
