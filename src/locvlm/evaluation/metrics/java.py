"""The Java programs that published captioning metrics are made with."""

import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import TemporaryFile
from typing import IO

from locvlm.errors import ConfigError, LocVLMError

PACKAGE = "pycocoevalcap"


def check_programs() -> Path:
    """The folder of the package that brings the programs.

    Raises:
        ConfigError: the package or Java is missing; says what to install, and what goes without.
    """
    spec = find_spec(PACKAGE)
    missing = [] if spec else [f"the package {PACKAGE} (pip install 'locvlm[eval]')"]
    if which("java") is None:
        missing.append("Java 8 or later (such as apt-get install default-jre-headless)")
    if missing or spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "METEOR and the tokenizer of METEOR and CIDEr-D are Java programs that cannot be run",
            where="tokenizer=ptb",
            fix=f"install {' and '.join(missing)}; without Java, tokenizer=plain counts words "
            "between spaces and signs and gives CIDEr-D alone, under the name cider_plain",
        )
    return Path(spec.submodule_search_locations[0])


def start(options: Sequence[str], errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Starts one of the programs, whatever the locale, with a pipe in and out."""
    # UsePerfData: it would write a file into the system's temporary folder.
    command = ["java", "-Dfile.encoding=UTF-8", "-XX:-UsePerfData", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors)


def run(options: Sequence[str], text: str) -> str:
    """What one of the programs makes of a text.

    Raises:
        LocVLMError: it fails; with the last that it said.
    """
    with TemporaryFile() as errors, start(options, errors) as program:
        out, _ = program.communicate(text.encode())
        if program.returncode:
            raise failed(options, errors)
    return out.decode()


def failed(options: Sequence[str], errors: IO[bytes]) -> LocVLMError:
    """The error of a program that ended early, with the last that it said."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()
    return LocVLMError(
        f"the Java program ended early: {said[-1] if said else 'it said nothing'}",
        where=" ".join(("java", *options)),
        fix="see that it has 2 GB of memory",
    )
