"""Which model a folder holds."""

from pathlib import Path

from locvlm.io import sha256


def sha256_folder(folder: str | Path) -> str:
    """One hex digest of the names and contents of a folder's files, without what lies deeper."""
    files = sorted(file for file in Path(folder).iterdir() if file.is_file())
    return sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode())
