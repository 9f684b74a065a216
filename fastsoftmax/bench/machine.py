"""The facts about the machine of a run, with its date."""

import datetime

from .. import system


def facts(*packages: str) -> dict[str, str]:
    """The versions and the machine, the versions of packages that are installed, and the date."""
    known = {name: fact for name, fact in system.versions().items() if name != "cache folder"}
    return known | system.installed(*packages) | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
