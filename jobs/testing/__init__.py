"""Test a pipeline under kills: events with known ids, a killer, and a checker of what must hold after it."""
