"""Errors that say what is wrong, where, and what to do."""


class LocVLMError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: what is wrong, in one sentence.
        where: file, line, key or sample that it concerns.
        fix: what a person can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        self.what, self.where, self.fix = what, where, fix
        lines = [what, where and f"  where: {where}", fix and f"  fix:   {fix}"]
        super().__init__("\n".join(line for line in lines if line))


class DataError(LocVLMError):
    """A sample or file cannot be used."""


class ConfigError(LocVLMError):
    """A configuration cannot be run."""


class CheckpointError(LocVLMError):
    """A checkpoint cannot be loaded, or does not fit the model."""
