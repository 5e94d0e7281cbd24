"""Bad records are set aside with their reason, and the work goes on."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from locvlm.errors import LocVLMError
from locvlm.io import write_text


@dataclass(slots=True)
class Quarantine:
    """Records that could not be used, in the order in which they were met."""

    records: list[dict[str, str]] = field(default_factory=list)

    def add(self, key: str, error: LocVLMError) -> None:
        """Sets the record `key` aside because of `error`."""
        self.records.append(
            {
                "key": key,
                "reason": error.what,
                "where": error.where or "",
                "fix": error.fix or "",
            }
        )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def reasons(self) -> dict[str, int]:
        """How often each kind of reason occurred; numbers and names in it are left out."""
        kinds = Counter(record["reason"].split(":")[0].split(",")[0] for record in self.records)
        return dict(sorted(kinds.items()))

    def write(self, path: Path) -> None:
        """One JSON object a line: key, reason, where, fix."""
        lines = (json.dumps(record, ensure_ascii=False) for record in self.records)
        write_text(path, "".join(f"{line}\n" for line in lines))
