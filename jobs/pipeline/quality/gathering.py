"""How many of the rows set apart a scan brings to the driver, and how large they may be. Pure; no Spark."""

from dataclasses import dataclass

from jobs.pipeline.quality.verdict import SetApart, Verdict


@dataclass(frozen=True, slots=True)
class Gathering:
    """Limits that bound what one batch can bring to the driver; beyond them a second scan writes the quarantine."""

    rows: int
    row_bytes: int
    """Of the raw record."""

    def is_full(self, part: SetApart) -> bool:
        """Whether as many rows came as there are, or may come: none that is seen to be left out for its size."""
        return len(part.rows) == min(part.count, self.rows)


USUAL = Gathering(rows=4_000, row_bytes=2_048)
LARGE = Gathering(rows=250, row_bytes=32_768)
"""As many bytes in all, about 8 MB."""
EXAMPLES = Gathering(rows=100, row_bytes=32_768)
"""For a batch that needs the second scan anyway: what a person looks at."""


def gathering_after(now: Gathering, verdict: Verdict) -> Gathering:
    """What suits the batch behind one that was gathered so: it is likely to be of the same kind."""
    count = verdict.rows_quarantined
    if now == USUAL and verdict.is_gathered:
        return USUAL
    if count > USUAL.rows:
        return EXAMPLES
    has_larger = not (now.is_full(verdict.malformed) and now.is_full(verdict.unfit))
    if count <= LARGE.rows:
        return EXAMPLES if has_larger and now != USUAL else LARGE
    return EXAMPLES if has_larger or _largest(verdict) > USUAL.row_bytes else USUAL


def _largest(verdict: Verdict) -> int:
    """Bytes of the largest raw record that was gathered, which is base64 here."""
    return max(
        (len(row.get("raw") or "") * 3 // 4 for row in (*verdict.malformed.rows, *verdict.unfit.rows)), default=0
    )
