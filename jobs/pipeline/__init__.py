"""The library behind the entrypoints, in the order in which data flows."""
