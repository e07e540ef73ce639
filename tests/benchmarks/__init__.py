"""How fast the store is, as ratios to hand-written SQL in the same run.

`python -m tests.benchmarks` prints a table; docs/performance.md says what is measured, and against
what. Nothing here is a test.
"""
