"""Measurements of hesse beside its peers. Each module is one table: ``python -m bench.dense``; see
README.md."""
