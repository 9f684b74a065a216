"""The README as a package index shows it: what it links to in the repository has a whole address there.

Hatchling calls this when it builds a distribution.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

IMAGE = re.compile(r"(!\[[^]]*\]\()(?!https?:)")
LINK = re.compile(r"(\]\()(?!https?:|#)")


class ReadmeOfIndex(MetadataHookInterface):
    """Fills in the field `readme` of the project's metadata."""

    def update(self, metadata: dict) -> None:
        """Add the README, with addresses below the project's own."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        for pattern, view in ((IMAGE, "raw"), (LINK, "blob")):
            text = pattern.sub(rf"\1{metadata['urls']['Source']}/{view}/main/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
