#!/usr/bin/env python3
"""Execute a Dockerfile where no container engine runs: each stage a folder, each RUN a chroot, FROM a debootstrap.

Not a line of the Dockerfile is skipped: FROM debian:N, FROM <stage>, ARG, ENV, WORKDIR, USER, COPY (from the checkout,
with its .dockerignore, and --from=<stage>) and RUN do what an engine would do; VOLUME, CMD and the like only describe
the image. Anything else is an error. The folders see of this machine its name resolution, its certificates and its pip
configuration, and get Debian from the archives that its apt uses.

    sudo docker/prove_dockerfile.py docker/Dockerfile /var/tmp/proof --build-arg CUDA=13 --run "make help"

Needs root and debootstrap. A stage's folder stays, WORK/<stage>, for a look at it; the last one is called `final`.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

OF_THIS_MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
SUITES = {"debian:11": "bullseye", "debian:12": "bookworm", "debian:13": "trixie", "debian:sid": "sid"}
PART = "base.part"  # a bare Debian that is not finished
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class DockerfileError(Exception):
    """The Dockerfile asks for something that cannot be done; one line says what."""


@dataclass
class Stage:
    """A stage under construction: its folder and what ARG, ENV, WORKDIR and USER have set."""

    name: str
    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "root"

    def variables(self) -> dict[str, str]:
        """Return the values of $NAME, which are RUN's environment, too: ENV goes before ARG."""
        return {**self.arguments, **self.environment}

    def inside(self, path: str) -> Path:
        """The folder's own place of an image's path, absolute or below WORKDIR."""
        return self.root / os.path.normpath(os.path.join(self.workdir, path)).lstrip("/")


def instructions(text: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into (INSTRUCTION, rest of it), comments out and continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    parts = [line.strip().partition(" ") for line in "\n".join(lines).replace("\\\n", "").splitlines()]
    return [(word.upper(), rest.strip()) for word, _, rest in parts]


def substitute(text: str, variables: dict[str, str]) -> str:
    """Replace $NAME and ${NAME}; one that is not set by nothing."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: variables.get(match[1] or match[2], ""), text)


# ---[ Folders


def workplace(work: Path, context: Path) -> Path:
    """Make the folder for the stages if need be; DockerfileError if it holds anything else, or is the checkout."""
    work = work.resolve()
    ours = any(work.glob("debian-*/etc/debian_version")) or (work / PART).is_dir()
    foreign = work.exists() and any(work.iterdir()) and not ours
    if foreign or work == context or context in work.parents:
        raise DockerfileError(f"{work} holds something else: name an empty or a new folder outside the checkout")
    work.mkdir(parents=True, exist_ok=True)
    return work


def remove(folder: Path) -> None:
    """Remove a folder, whole, if it is there; DockerfileError if something is mounted in it, which would go, too."""
    if mounts := mounts_below(folder):
        raise DockerfileError(f"{mounts[0]} is a mount, left by somebody: umount it first")
    if folder.exists():
        shutil.rmtree(folder)


def mounts_below(folder: Path) -> list[Path]:
    """List the mounts below a folder, as this process sees them."""
    places = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    mounts = [Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place)) for place in places]
    return [mount for mount in mounts if folder.resolve() in mount.parents]


# ---[ Base images


def archives(suite: str) -> list[str]:
    """List a Debian suite's sources.list lines, with updates and security fixes, from where this machine has its."""
    uris = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True).stdout
    known = "|".join(SUITES.values())
    pairs = re.findall(rf"^'(\S+)/dists/(?:{known})(-updates|-security|)/", uris, re.M)
    parts = [""] if suite == "sid" else ["", "-updates", "-security"]
    lines = list(dict.fromkeys(f"deb {archive} {suite}{part} main" for archive, part in pairs if part in parts))
    if not any(line.endswith(f" {suite} main") for line in lines):
        raise DockerfileError("this machine's apt has no archive of Debian")
    return sorted(lines, key=len)


def base_image(name: str, work: Path) -> Path:
    """A bare Debian below `work`, made once."""
    if name not in SUITES:
        raise DockerfileError(f"FROM {name}: known are {', '.join(SUITES)} and stages")
    base, part = work / name.replace(":", "-"), work / PART
    if base.exists():
        return base
    sources = archives(SUITES[name])
    remove(part)
    subprocess.run(
        ["debootstrap", "--variant=minbase", SUITES[name], part, sources[0].split()[1]],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(part / "var/cache/apt/archives")
    (part / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
    if SUITES[name] == "sid":  # renewed every few hours: what a mirror has of it may be past its date
        (part / "etc/apt/apt.conf.d/mirror").write_text('Acquire::Check-Valid-Until "false";\n')
    for path in filter(os.path.exists, OF_THIS_MACHINE):
        target = part / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return part.rename(base)


# ---[ Instructions


def new_stage(rest: str, name: str, stages: dict[str, Stage], work: Path, keep: bool) -> Stage:
    """FROM image-or-stage: a copy of its folder, or what an earlier run left if we are to keep that."""
    parent = stages.get(rest.split()[0])
    stage = Stage(name, work / name)
    if parent:
        stage.environment, stage.arguments = dict(parent.environment), dict(parent.arguments)
        stage.workdir, stage.user = parent.workdir, parent.user
    if not keep:
        source = parent.root if parent else base_image(rest.split()[0], work)
        remove(stage.root)
        subprocess.run(["cp", "-a", "--reflink=auto", source, stage.root], check=True)
    elif not stage.root.is_dir():
        raise DockerfileError(f"there is no {stage.root} to keep")
    return stage


def ignored(path: str, patterns: list[str]) -> bool:
    """Tell whether .dockerignore leaves out a path, relative to the checkout; the last pattern that fits decides."""
    verdict = False
    for pattern in patterns:
        expression = re.escape(pattern.lstrip("!").strip("/"))
        for escaped, meaning in ((r"\*\*/", "(?:.*/)?"), (r"\*\*", ".*"), (r"\*", "[^/]*"), (r"\?", "[^/]")):
            expression = expression.replace(escaped, meaning)
        if re.fullmatch(rf"{expression}(?:/.*)?", path):
            verdict = not pattern.startswith("!")
    return verdict


def context_files(context: Path) -> list[str]:
    """List all files of the checkout that COPY may see."""
    listed = context / ".dockerignore"
    lines = listed.read_text().splitlines() if listed.exists() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    visible = []
    for folder, folders, files in os.walk(context):
        relative = Path(folder).relative_to(context)
        folders[:] = [name for name in folders if not ignored(str(relative / name), patterns)]
        visible += [str(relative / name) for name in files if not ignored(str(relative / name), patterns)]
    return visible


def copy(rest: str, stage: Stage, stages: dict[str, Stage], context: Path) -> None:
    """COPY [--from=stage] source... destination; a folder's content is copied, not the folder."""
    *sources, destination = shlex.split(rest)
    if sources[0].startswith("--from="):
        name = sources.pop(0).removeprefix("--from=")
        if name not in stages:
            raise DockerfileError(f"COPY {rest}: there is no stage {name}")
        base, visible = stages[name].root, None
    else:
        base, visible = context, context_files(context)
    if any(source.startswith("--") for source in sources):
        raise DockerfileError(f"COPY {rest}: this option is not known here")
    target = stage.inside(destination)
    if destination.endswith("/") or destination == "." or len(sources) > 1:
        target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        matches = sorted(glob.glob(str(base / source.lstrip("/"))))
        if not matches:
            raise DockerfileError(f"COPY {rest}: no {source}")
        for match in map(Path, matches):
            if visible is not None:
                copy_visible(match, target, context, visible)
            else:
                subprocess.run(["cp", "-a", f"{match}/." if match.is_dir() else match, target], check=True)


def copy_visible(match: Path, target: Path, context: Path, visible: list[str]) -> None:
    """Of a file or a folder of the checkout, what is visible, to `target`; belongs to root, as in an image."""
    if match.is_file() and str(match.relative_to(context)) not in visible:
        raise DockerfileError(f"COPY: {match.relative_to(context)} is in .dockerignore")
    top = "" if match == context else f"{match.relative_to(context)}/"
    files = [match.relative_to(context)] if match.is_file() else [name for name in visible if name.startswith(top)]
    for name in map(str, files):
        goal = (
            target / (name.removeprefix(top) if match.is_dir() else Path(name).name)
            if target.is_dir() or match.is_dir()
            else target
        )
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(context / name, goal, follow_symlinks=False)
        os.chown(goal, 0, 0, follow_symlinks=False)


def run_in(stage: Stage, command: str) -> int:
    """Run a command by the image's own shell as its own user in a chroot, with /proc and /dev; return its status."""
    lines = [line.split(":") for line in (stage.root / "etc/passwd").read_text().splitlines()]
    account = next((line for line in lines if stage.user in (line[0], line[2])), None)
    if account is None:
        raise DockerfileError(f"USER {stage.user}: not in the image's /etc/passwd")
    environment = {"HOME": account[5], **stage.variables()}
    stage.inside(".").mkdir(parents=True, exist_ok=True)
    root, workdir = shlex.quote(str(stage.root)), shlex.quote(stage.workdir)
    script = f"""
        set -e
        mount -t proc proc {root}/proc
        mount --rbind /dev {root}/dev
        exec chroot --userspec={account[2]}:{account[3]} {root} /usr/bin/env -i -C {workdir} "$@"
    """
    words = [f"{name}={value}" for name, value in environment.items()]
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", *words, "/bin/sh", "-c", command]
    ).returncode


def run(command: str, stage: Stage) -> None:
    """RUN command; raises if it fails."""
    if status := run_in(stage, command):
        raise DockerfileError(f"RUN {command}: exit status {status}")


def set_argument(rest: str, stage: Stage, given: dict[str, str]) -> None:
    """ARG NAME or NAME=default: what was given goes before the default."""
    name, has_default, default = rest.partition("=")
    if name in given or has_default:
        stage.arguments[name] = given.get(name, substitute(default.strip('"'), stage.variables()))


def execute(word: str, rest: str, stage: Stage, stages: dict[str, Stage], context: Path, given: dict[str, str]) -> None:
    """One instruction of a stage."""
    if word == "RUN":
        run(rest, stage)
    elif word == "COPY":
        copy(substitute(rest, stage.variables()), stage, stages, context)
    elif word == "ENV":
        values = [part.partition("=") for part in shlex.split(substitute(rest, stage.variables()))]
        if not all(equals for _, equals, _ in values):
            raise DockerfileError(f"ENV {rest}: only NAME=value is known here")
        stage.environment.update({name: value for name, _, value in values})
    elif word == "ARG":
        set_argument(rest, stage, given)
    elif word == "WORKDIR":
        stage.workdir = os.path.join(stage.workdir, substitute(rest, stage.variables()))
        stage.inside(".").mkdir(parents=True, exist_ok=True)
    elif word == "USER":
        stage.user = rest
    elif word not in ("VOLUME", "CMD", "ENTRYPOINT", "LABEL", "EXPOSE"):
        raise DockerfileError(f"{word}: this instruction is not known here")


def prove(dockerfile: Path, work: Path, given: dict[str, str], leave_out: list[str], have: list[str]) -> Stage:
    """Execute all stages but those left out, and return the last; those that we have without their RUN and COPY."""
    context, stages, stage, name = Path.cwd(), {}, None, None
    for word, rest in instructions(dockerfile.read_text()):
        start = time.monotonic()
        if word == "FROM":
            name = rest.split()[2] if len(rest.split()) == 3 else "final"
        elif name is None:
            raise DockerfileError(f"{word} {rest}: before the first FROM, which is not known here")
        if name in leave_out or (name in have and word in ("RUN", "COPY")):
            print(f"[{name}] {word} {rest}  (not executed)", flush=True)
            continue
        if word == "FROM":
            stage = stages[name] = new_stage(rest, name, stages, work, keep=name in have)
        else:
            execute(word, rest, stage, stages, context, given)
        print(f"[{name}] {word} {rest}  ({time.monotonic() - start:.0f} s)", flush=True)
    if stage is None:
        raise DockerfileError(f"{dockerfile} has no FROM, or all of it is left out")
    return stage


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("work", type=Path, help="folder for the stages, one below it for each")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--leave-out", action="append", default=[], metavar="STAGE", help="a stage that no other needs")
    parser.add_argument("--have", action="append", default=[], metavar="STAGE", help="a stage that an earlier run made")
    parser.add_argument("--run", action="append", default=[], metavar="COMMAND", help="then run this in the last stage")
    args = parser.parse_args(argv)
    os.umask(0o022)
    if odd := [part for part in args.build_arg if "=" not in part]:
        parser.error(f"--build-arg {odd[0]}: give NAME=VALUE")
    try:
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            raise DockerfileError(f"needs root (this is user {os.geteuid()}) and debootstrap")
        stage = prove(
            args.dockerfile,
            workplace(args.work, Path.cwd()),
            dict(part.split("=", 1) for part in args.build_arg),
            args.leave_out,
            args.have,
        )
        for command in args.run:
            print(f"[{stage.name}] {command}", flush=True)
            run(command, stage)
        size = subprocess.run(["du", "-sxm", stage.root], capture_output=True, text=True).stdout.split()[0]
    except (DockerfileError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{stage.root}: {size} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
