"""What is fast, and how it is measured: `python -m benchmarks`; docs/benchmarks.md explains the rows."""
