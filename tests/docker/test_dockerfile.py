"""docker/Dockerfile: what can be compared with the checkout without building it, and the script that does build it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import prove_dockerfile
import pytest

import testlib
from selfie.common import paths

DOCKER = paths.ROOT / "docker"


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions, a list for each stage."""
    found = []
    for word, rest in prove_dockerfile.instructions((DOCKER / "Dockerfile").read_text()):
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def test_every_image_is_a_plain_debian_12():
    """Or a stage named before."""
    known = {"debian:12"}
    for (_, rest), *_ in stages():
        assert rest.split()[0] in known
        known.update(rest.split()[2:])


def test_what_is_copied_is_there_and_not_ignored():
    """From the checkout, that is; and nothing that is built or a user's is ever seen."""
    visible = prove_dockerfile.context_files(paths.ROOT)
    assert {name.split("/")[0] for name in visible}.isdisjoint({".git", ".venv", "build", "data", "weights", "runs"})
    for stage in stages():
        for rest in (rest for word, rest in stage if word == "COPY" and "--from" not in rest):
            for source in rest.split()[:-1]:
                assert any(name.startswith(source.rstrip("/")) for name in visible) or source == ".", source


def test_the_image_is_used_without_root_and_has_no_compilers():
    """The last stage ends as an ordinary user, and installs nothing that builds."""
    *_, last = stages()
    assert [rest for word, rest in last if word == "USER"] == ["selfie"]
    installs = [rest for word, rest in last if word == "RUN" and re.search(r"apt|docker/setup|pip|conda|curl", rest)]
    assert installs and all(rest.startswith("docker/setup_system.sh run ") for rest in installs)
    listed = re.sub("#.*", "", (DOCKER / "packages-run.txt").read_text()).split()
    assert not [name for name in listed if re.search(r"-dev$|^(g\+\+|gcc|cmake|ninja)", name)]


def versionless(package: str) -> str:
    """Name a library's package as all releases of Debian do: libhdf5 for libhdf5-103-1 and libhdf5-310."""
    return re.sub(r"(-?\d[\d.-]*)?(v\d|t64)*$", "", package)


def test_the_image_has_the_libraries_that_caffe_is_linked_with():
    """packages-run.txt names the package of each (those of every Debian aside): on Debian 12, of which the image is.

    Other releases have other versions of them.
    """
    if not shutil.which("dpkg") or not shutil.which("objdump"):
        testlib.skip("debian", "packages of libraries are not known here")
    listed = set(re.sub("#.*", "", (DOCKER / "packages-run.txt").read_text()).split())
    name_of = str if Path("/etc/debian_version").read_text().startswith("12.") else versionless
    listed = set(map(name_of, listed))
    files = [paths.BUILD / "caffe" / name for name in ("bin/caffe", "lib/libcaffe.so", "python/caffe/_caffe.so")]
    dump = subprocess.run(["objdump", "-p", *files], capture_output=True, text=True, check=True).stdout
    linked = subprocess.run(["ldd", *files], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED\s+(\S+)", dump))
    places = dict(re.findall(r"(\S+) => (\S+)", linked))
    ours = {name for name in needed if str(paths.BUILD) in places.get(name, "")}
    owners = subprocess.run(["dpkg", "-S", *(f"*/{name}" for name in needed - ours)], capture_output=True, text=True)
    packages = {}
    for package, path in re.findall(r"^(\S+?)(?::\w+)?: (\S+)$", owners.stdout, re.M):
        packages.setdefault(path.rsplit("/", 1)[1], set()).add(name_of(package))
    always = set(map(name_of, ("libc6", "libgcc-s1", "libstdc++6")))
    missing = {name: packages.get(name) for name in needed - ours if not packages.get(name, set()) & (listed | always)}
    assert not missing and len(needed) > 10


def test_the_proof_reads_dockerfiles_as_an_engine_does():
    """Comments, continued lines, variables, and the patterns of .dockerignore."""
    text = "# head\nFROM a AS b\nRUN one && \\\n    # inside\n  two \\\nthree\nenv X=1\n"
    assert prove_dockerfile.instructions(text) == [("FROM", "a AS b"), ("RUN", "one &&   two three"), ("ENV", "X=1")]
    assert prove_dockerfile.substitute("$A/${B}/$C", {"A": "1", "B": "2"}) == "1/2/"
    patterns = ["build", "**/__pycache__", "*.txt", "!keep.txt"]
    for path in ("build", "build/x", "__pycache__", "a/b/__pycache__/c", "other.txt"):
        assert prove_dockerfile.ignored(path, patterns)
    for path in ("building", "a/build", "keep.txt", "a/other.txt", "Makefile"):
        assert not prove_dockerfile.ignored(path, patterns)


def test_an_instruction_that_the_proof_cannot_execute_is_an_error(tmp_path):
    """It never passes over what it does not know."""
    stage = prove_dockerfile.Stage("one", tmp_path)
    with pytest.raises(prove_dockerfile.DockerfileError, match="ONBUILD"):
        prove_dockerfile.execute("ONBUILD", "RUN x", stage, {}, tmp_path, {})
    with pytest.raises(prove_dockerfile.DockerfileError, match="option"):
        prove_dockerfile.copy("--chmod=755 a b", stage, {}, tmp_path)
    with pytest.raises(prove_dockerfile.DockerfileError, match="no stage nowhere"):
        prove_dockerfile.copy("--from=nowhere a b", stage, {}, tmp_path)
    with pytest.raises(prove_dockerfile.DockerfileError, match="NAME=value"):
        prove_dockerfile.execute("ENV", "X value", stage, {}, tmp_path, {})


@pytest.mark.parametrize(
    ("suite", "parts"),
    [("trixie", ["", "-updates", "-security"]), ("bookworm", ["", "-updates", "-security"]), ("sid", [""])],
)
def test_a_base_is_of_any_release(tmp_path, monkeypatch, suite, parts):
    """From the places that this machine's Debian, of another release, comes from; other archives have none."""
    listed = (
        "//a/debian/dists/bookworm",
        "//a/debian/dists/bookworm-updates",
        "//b/dists/bookworm-security",
        "//c/dists/d",
    )
    (tmp_path / "apt-get").write_text("#!/bin/sh\n" + "".join(f"echo \"'http:{place}/In' x 0\"\n" for place in listed))
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    places = {"": "//a/debian", "-updates": "//a/debian", "-security": "//b"}
    assert sorted(prove_dockerfile.archives(suite)) == sorted(
        f"deb http:{places[part]} {suite}{part} main" for part in parts
    )


def test_the_proof_touches_no_folder_but_its_own(tmp_path):
    """It removes the folders of earlier stages: never in the checkout, nor where anything else lies."""
    (tmp_path / "build").mkdir()
    for work, context in ((tmp_path, tmp_path / "elsewhere"), (tmp_path / "new", tmp_path), (tmp_path, tmp_path)):
        with pytest.raises(prove_dockerfile.DockerfileError, match="holds something else"):
            prove_dockerfile.workplace(work, context)
    assert prove_dockerfile.workplace(tmp_path / "build" / "proof", tmp_path / "elsewhere").is_dir()
    (tmp_path / "debian-12" / "etc").mkdir(parents=True)
    (tmp_path / "debian-12" / "etc" / "debian_version").touch()
    assert prove_dockerfile.workplace(tmp_path, tmp_path / "elsewhere") == tmp_path


def test_what_is_mounted_in_a_stage_stays(tmp_path):
    """Such as a machine's own /dev, from somebody's chroot: a removal would go into it."""
    inner = tmp_path / "root of somebody" / "dev"
    inner.mkdir(parents=True)
    code = """if True:
        import pathlib, sys, prove_dockerfile
        try:
            prove_dockerfile.remove(pathlib.Path(sys.argv[1]).parent)
        except prove_dockerfile.DockerfileError as error:
            print(error, pathlib.Path(sys.argv[1], "null").exists())
    """
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    script = 'mount -t tmpfs none "$1" || exit 77; touch "$1/null"; exec "$2" -c "$3" "$1"'
    command = [*namespace, "sh", "-c", script, "sh", inner, sys.executable, code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=DOCKER)
    if result.returncode:
        testlib.skip("root", f"no file system can be mounted here: {result.stderr.strip()}")
    assert result.stdout == f"{inner} is a mount, left by somebody: umount it first True\n"
    prove_dockerfile.remove(inner.parent)
    assert not inner.exists()


def test_mistakes_with_the_proof_are_one_line(tmp_path, capsys):
    """A missing Dockerfile, one without stages, an argument without a value."""
    with pytest.raises(SystemExit):
        prove_dockerfile.main(["Dockerfile", str(tmp_path / "work"), "--build-arg", "CUDA"])
    assert "NAME=VALUE" in capsys.readouterr().err
    (tmp_path / "empty").write_text("ARG X=1\n")
    for dockerfile in ("missing", "empty"):
        assert prove_dockerfile.main([str(tmp_path / dockerfile), str(tmp_path / "work")]) == 1
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_what_an_image_needs_is_collected(tmp_path):
    """Caffe in use, found at the same place below the folder, and no source tree."""
    subprocess.run([DOCKER / "collect_runtime.sh", tmp_path], check=True)
    assert (tmp_path / "build" / "caffe" / "bin" / "caffe").exists() and (tmp_path / "tools" / "score.py").exists()
    assert not list((tmp_path / "build").glob("caffe-src*"))
