"""Where conf is read from: directory, target, variables."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where conf is read from, for which environment."""

    conf: Path
    target: str = "local"
    variables: dict[str, str] = field(default_factory=dict)
    """Given on the command line; they win over the target's."""

    @property
    def root(self) -> Path:
        """The directory that holds conf/; `${root}` in conf."""
        return self.conf.absolute().parent

    @property
    def spark_defaults(self) -> Path:
        """Spark options of every target, as `spark-submit --properties-file` reads them."""
        return self.conf / "spark-defaults.conf"
