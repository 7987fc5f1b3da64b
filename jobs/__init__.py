"""Esclusa: checked, exactly-once streams into Delta Lake."""

__version__ = "0.1.0"
