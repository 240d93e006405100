"""The parts that every command shares: a parser made from its docstring, common options, errors as one line.

Only the standard library is imported here, so that ``--help`` is instant and a missing package is a clear message.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NoReturn

from selfie.common import names
from selfie.common.errors import SelfieError
from selfie.common.splits import SPLITS

GUARD = "SELFIE_OWN_ENVIRONMENT"
UNDER_MAKE = "SELFIE_MAKE"  # set by the Makefile: its user knows its variables, not the commands' options
MAKE_VARIABLES = {
    "resume": "RESUME=1",
    "replace": "REPLACE=1",
    **{name: name.upper() for name in ("batch", "epochs", "gpu", "images", "jobs", "labels", "lmdb", "manifest")},
    **{name: name.upper() for name in ("html", "run", "seed", "solver", "variant", "weights")},
    **{name: name.upper().replace("-", "_") for name in ("contact", "server", "tag", "terms-read")},
}
NETS = {"ablations": "ABLATION", "reach": "VARIANT"}  # what --net of these commands is
ETHICS = "docs/ethics.md"
LARGEST = (1 << 31) - 1  # what C libraries, and the system's clocks, take as a number
FLAG_VARIABLES = {  # a command's other options go into a variable of its own
    "ablations": "ABLATION_FLAGS",
    "bot": "BOT_FLAGS",
    "fetch_weights": "WEIGHT_FLAGS",
    "filter_faces": "FACE_FLAGS",
    "gather": "GATHER_FLAGS",
    "grids": "GRID_FLAGS",
    "label": "LABEL_FLAGS",
    "make_lmdb": "LMDB_FLAGS",
    "serve": "SERVE_FLAGS",
    "train": "TRAIN_FLAGS",
    "tsne_map": "MAP_FLAGS",
}

SCARCE = {  # what the system has too little of, and what to do
    errno.ENOMEM: "out of memory: free some, or raise its limit (ulimit -v)",
    errno.EMFILE: "too many open files: raise their limit (ulimit -n)",
    errno.ENFILE: "the system has too many open files: end other programs",
    errno.EAGAIN: "the system refuses more, most likely processes: raise their limit (ulimit -u)",
}

_offered: set[str] = set()  # options of the command that a message may name

# --- parsers ---------------------------------------------------------------------------------------------------------


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser whose description is a command's docstring: first paragraph as it is, the rest as the epilog."""
    summary, _, details = (doc or "").strip().partition("\n\n")
    return _Parser(description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)


class _Parser(argparse.ArgumentParser):
    """Refuses an empty argument: mostly a variable that is not set, and as a path it would be the current folder."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        for before, word in zip(["", *words], words):
            if word == "" or re.fullmatch(r"--[a-z][a-z-]*=", word):
                option = (word or before).rstrip("=")
                self.error(f"{option} is empty" if option.startswith("--") else "an argument is empty")
        return super().parse_known_args(words, namespace)


def add_run(to: argparse.ArgumentParser) -> None:
    """Add --run: which run to use."""
    to.add_argument("--run", type=Path, metavar="DIR", help="run folder (default: the newest finished run)")


def add_gpu(to: argparse.ArgumentParser) -> None:
    """Add --gpu: one GPU to compute on."""
    to.add_argument("--gpu", type=int, metavar="N", help="GPU to use (default: CPU)")


def add_jobs(to: argparse.ArgumentParser, what: str = "worker processes", default: str = "one per core") -> None:
    """Add --jobs: how many of `what` work at a time."""
    _offered.add("--jobs")
    to.add_argument("--jobs", type=positive, metavar="N", help=f"{what} (default: {default})")


def add_cluster(to: argparse.ArgumentParser) -> None:
    """Add --scheduler, --workers, --shards and --shard-rows: let a cluster do the work."""
    cluster = to.add_argument_group("on a cluster (docs/scale.md)")
    where = cluster.add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="let the workers of this Dask scheduler work: tcp://HOST:PORT, or its file",
    )
    where.add_argument("--workers", type=positive, metavar="N", help="let N worker processes of this machine work")
    cluster.add_argument(
        "--shards",
        metavar="PLACE",
        help="folder or address (s3://...) of their results, which all must reach (default: beside what is written)",
    )
    cluster.add_argument(
        "--shard-rows", type=positive, metavar="N", help="pictures of a shard (default: 128 to 2048, by their number)"
    )


def add_split(to: argparse.ArgumentParser, what: str = "selfies to use") -> None:
    """Add --split: which part of the run's database."""
    to.add_argument("--split", choices=SPLITS, default="test", help=f"{what} (default: %(default)s)")


def add_seed(to: argparse.ArgumentParser, default: int = 2015, of: str = "everything drawn") -> None:
    """Add --seed: the random seed of `of`."""
    to.add_argument(
        "--seed", type=seed, default=default, metavar="S", help=f"random seed of {of} (default: %(default)s)"
    )


def add_table(to: argparse.ArgumentParser) -> None:
    """Add --map and --decimal: how a manifest's columns and numbers are to be read."""
    to.add_argument(
        "--map",
        type=_mapped,
        action=_Once,
        default=[],
        metavar="NAME=COLUMN",
        help="the manifest's COLUMN is what this program calls NAME, as in likes=likesCount; may be given again",
    )
    to.add_argument(
        "--decimal",
        choices=(".", ","),
        metavar="MARK",
        help="the mark, . or , before the decimals in the manifest's numbers: with ',' 12.000 is twelve thousand",
    )


class _Once(argparse.Action):
    """Collects NAME=COLUMN; a usage error for a NAME that is given twice."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, flag: str | None = None
    ) -> None:
        pairs = getattr(namespace, self.dest)
        if value[0] in dict(pairs):
            parser.error(f"{flag} {value[0]} is given twice: as {dict(pairs)[value[0]]} and as {value[1]}")
        setattr(namespace, self.dest, [*pairs, value])


def _mapped(text: str) -> tuple[str, str]:
    """Read NAME=COLUMN."""
    name, _, column = text.partition("=")
    if not name.strip() or not column:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=COLUMN, as in likes=likesCount")
    return name.strip(), column


def add_outside(to: argparse.ArgumentParser) -> None:
    """Add --outside: paths of a table may lead out of its folder."""
    to.add_argument(
        "--outside", action="store_true", help="allow absolute paths and '..' in the table, which lead out of --images"
    )


def address(text: str) -> str:
    """Read the IP address of a machine."""
    return _ip(text, "ip_address", "an IP address, such as 192.168.1.5")


def network(text: str) -> str:
    """Read an IP network."""
    return _ip(text, "ip_network", "an IP network, such as 192.168.1.0/24")


def _ip(text: str, kind: str, what: str) -> str:
    import ipaddress

    try:
        getattr(ipaddress, kind)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}") from error
    return text


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    return _between(1, LARGEST, text)


def natural(text: str) -> int:
    """Read a whole number from 0 on."""
    return _between(0, LARGEST, text)


def up_to(most: int) -> Callable[[str], int]:
    """Return what reads a whole number from 1 to `most`, for one that takes memory or time."""
    return lambda text: _between(1, most, text)


def seed(text: str) -> int:
    """Read a random seed: a whole number of 32 bits, which is what Caffe, numpy and scikit-learn all take."""
    number = _between(0, None, text)
    if number >= 1 << 32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a seed: that is a whole number below {1 << 32}")
    return number


def _between(least: int, most: int | None, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
    if most is not None and number > most:
        raise argparse.ArgumentTypeError(f"'{text}' is too large: give at most {most:,}")
    return number


# --- running ---------------------------------------------------------------------------------------------------------


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's main() and leave the process.

    Exit codes: what main returns (None is 0); 1 for an error that the user can mend, told in one line on stderr;
    2 for wrong usage (argparse); 130 for Ctrl-C. Anything else is our own bug and keeps its traceback.
    """
    _use_own_environment()
    # Messages get a descriptor of their own: while pictures are decoded, image.py keeps the codecs' off the common one.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's alphabet lacks is no bug
    logging.basicConfig(format="%(message)s", level=logging.INFO, handlers=[_Handler()])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    try:
        with _ctrl_c_heard():
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
        if error.errno in SCARCE:
            code = _die(_scarce(error.errno))
            sys.exit(code)
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        file = error.filename  # None, a name, or the number of a descriptor
        name = names.shown(os.fsdecode(file)) if isinstance(file, (str, bytes)) else "while writing"
        code = _die(f"{error.strerror}: {name}")
    except MemoryError:
        code = _die(_scarce(errno.ENOMEM))
    except RuntimeError as error:
        if "can't start new thread" in str(error):
            code = _die(f"{error}: raise the limits of memory or processes (ulimit -v, -u){_less()}")
        elif isinstance(error, getattr(sys.modules.get("caffe"), "Error", ())):
            code = _die(f"Caffe: {error}")  # in its own words, where a command has none
        else:
            raise
    except KeyboardInterrupt:
        code = _die("interrupted", 130)
    sys.exit(code)


def _scarce(what: int) -> str:
    """Say what the system has too little of, and what to do, in options that the command has."""
    return SCARCE[what] + _less()


def _less() -> str:
    return ", or give fewer --jobs" if "--jobs" in _offered else ", or ask for less"


@contextmanager
def _ctrl_c_heard() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside the block; before (quiet_start) and after, it ends the process at once.

    Not where we were started with SIGINT ignored, or have a handler of our own.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.default_int_handler:
                signal.signal(number, signal.SIG_DFL)


def point_to_ethics() -> None:
    """Point whoever starts a command that handles other people's pictures to the checklist, in a line on stderr."""
    _write(f"Other people's pictures: {ETHICS} has the checklist")


def tell_error(message: str) -> None:
    """Tell an error that does not end the command: a line of its own on stderr, above any progress bar."""
    _write("error: " + _one_line(message))


def in_makes_words(message: str, command: str | None = None) -> str:
    """Spell the options in a message as make's variables: --resume is RESUME=1, --force LMDB_FLAGS=--force."""
    command = command or Path(sys.argv[0]).stem
    variable = FLAG_VARIABLES.get(command)
    variables = {**MAKE_VARIABLES, **({"net": NETS[command]} if command in NETS else {})}

    def spelled(match: re.Match) -> str:
        name = match[1]
        return variables.get(name) or (f"{variable}=--{name}" if variable else match[0])

    return re.sub(r"(?<![\w-])--([a-z][a-z-]*[a-z])", spelled, message)


class _Handler(logging.Handler):
    """Log messages as lines of their own, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        _write(_one_line(self.format(record)))


def _one_line(message: str) -> str:
    """Join a message's lines, escape what is not for terminals; under make, speak of its variables."""
    line = names.printable(re.sub(r"\s*[\t\r\n]\s*", " ", message.strip(" \t\r\n")))
    return in_makes_words(line) if os.environ.get(UNDER_MAKE) else line


def _write(line: str) -> None:
    """Write a line to stderr, past the progress bars that are being drawn."""
    tqdm: Any = sys.modules.get("tqdm")  # who has not imported it draws no bar
    if tqdm is None:
        print(line, file=sys.stderr)
    else:
        tqdm.tqdm.write(line, file=sys.stderr)


def _die(message: str, code: int = 1) -> int:
    """End progress bars where they are and tell the error; returns the exit code."""
    tqdm: Any = sys.modules.get("tqdm")
    for bar in list(getattr(tqdm and tqdm.tqdm, "_instances", ())):
        bar.close()
    print("error: " + _one_line(message), file=sys.stderr)
    return code


def _use_own_environment() -> None:
    """Start again with the project's .venv where there is one and no environment is in use.

    So `python3 tools/score.py` works without activating anything; who activates another environment means it.
    """
    python = Path(__file__).resolve().parents[3] / ".venv" / "bin" / "python"
    if sys.prefix == sys.base_prefix and not os.environ.get(GUARD) and python.exists():
        os.environ[GUARD] = "1"  # once is enough, whatever that Python turns out to be
        os.execv(python, [str(python), *sys.argv])
