"""How many of the rows set apart a scan brings to the driver, and how large they may be. Pure; no Spark."""

from dataclasses import dataclass

from jobs.pipeline.quality.verdict import SetApart, Verdict


@dataclass(frozen=True, slots=True)
class Gathering:
    """Limits that bound what one batch can bring to the driver; beyond them a second scan writes the quarantine."""

    rows: int
    row_bytes: int
    """Of the raw record."""

    def takes(self, part: SetApart) -> bool:
        """Whether as many rows were gathered as this may bring: none of those was too large."""
        return len(part.rows) == min(part.count, self.rows)


USUAL = Gathering(rows=4_000, row_bytes=2_048)
LARGE = Gathering(rows=250, row_bytes=32_768)
"""As many bytes in all, about 8 MB."""
EXAMPLES = Gathering(rows=100, row_bytes=2_048)
"""For a batch that needs the second scan anyway: what a person looks at."""


def gathering_after(now: Gathering, verdict: Verdict) -> Gathering:
    """What suits the batch behind one that was gathered so: it is likely to be of the same kind."""
    count = verdict.rows_quarantined
    if count > USUAL.rows:
        return EXAMPLES
    if now.takes(verdict.malformed) and now.takes(verdict.unfit):
        return LARGE if now == LARGE and count <= LARGE.rows else USUAL
    return LARGE if now != LARGE and count <= LARGE.rows else EXAMPLES
