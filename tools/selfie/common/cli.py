"""What every command shares: a parser made from its docstring, and errors as one line with exit code 1.

Only the standard library is imported here, so that ``--help`` is instant and a missing package is a clear message.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Callable, NoReturn

from selfie.common.errors import SelfieError

GUARD = "SELFIE_OWN_ENVIRONMENT"


def parser(doc: str) -> argparse.ArgumentParser:
    """ArgumentParser whose description is a command's docstring: first paragraph as it is, the rest as the epilog."""
    summary, _, details = doc.strip().partition("\n\n")
    return argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's main() and leave the process.

    Exit codes: what main returns (None is 0); 1 for an error that the user can mend, told in one line on stderr;
    2 for wrong usage (argparse); 130 for Ctrl-C. Anything else is our own bug and keeps its traceback.
    """
    _use_own_environment()
    # Messages get a descriptor of their own: while pictures are decoded, image.py keeps the codecs' off the common one.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        code = main() or 0
        sys.stdout.flush()
    except SelfieError as error:
        code = _die(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("selfie"):
            raise
        code = _die(f"the Python package '{error.name}' is missing: run 'make setup', then use .venv/bin/python")
    except BrokenPipeError:  # `... | head` closed our output
        sys.stderr.close()
        code = 128 + signal.SIGPIPE
    except OSError as error:  # with a file's name it is about the user's disk, not about our code
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        code = _die(f"{error.strerror}: {error.filename or 'while writing'}")
    except KeyboardInterrupt:
        code = _die("interrupted", 130)
    sys.exit(code)


def _use_own_environment() -> None:
    """Start again with the project's .venv where there is one and no environment is in use.

    So `python3 tools/score.py` works without activating anything; who activates another environment means it.
    """
    python = Path(__file__).resolve().parents[3] / ".venv" / "bin" / "python"
    if sys.prefix == sys.base_prefix and not os.environ.get(GUARD) and python.exists():
        os.environ[GUARD] = "1"  # once is enough, whatever that Python turns out to be
        os.execv(python, [str(python), *sys.argv])


def _die(message: str, code: int = 1) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
