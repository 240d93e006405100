"""The one exception that commands turn into a single line for the user."""


class SelfieError(Exception):
    """Something a user can cause and mend: one line that says what is wrong and what to do."""
