"""The store beside other keepers of agents' sessions, each called as its documentation does.

They keep less than the store does: what a figure buys is said on the page of `docs/performance.md`.
"""
