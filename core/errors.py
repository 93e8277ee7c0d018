"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake in the input: one line saying what is wrong, where, and what to do. The command line prints it without a traceback."""
