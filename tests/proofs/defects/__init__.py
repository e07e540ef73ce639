"""Planted defects: the contract suite must be red on a copy of the package that has one.

The folder `planted` has them as diffs. A defect is its name; what is wrong; the aliases where it is
red, each with a test that always finds it (`short:` where the normal test run tries it); and the
lines that change, without line numbers, as they stand in the package exactly once. A defect whose
lines are gone fails as stale: whoever changed them plants it anew, so that none is disarmed unseen.
"""
