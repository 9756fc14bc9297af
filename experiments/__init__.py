"""The experiments behind the report: `python -m experiments` runs them all."""
