"""The one exception type the command line shows as a single line instead of a traceback."""


class MaamError(ValueError):
    """Bad input from the user: names what was wrong, what was got and what was expected."""
