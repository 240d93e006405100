"""The one exception that commands turn into a single line for the user; and what damaged files raise."""

import zipfile
import zlib

# What zipfile raises where bytes of a zip were changed: also for a flag that says encrypted, patched or another method.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError)


class SelfieError(Exception):
    """Something a user can cause and mend: one line that says what is wrong and what to do."""
