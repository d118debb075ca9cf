"""Makes a bundle smaller and faster, measures it end to end, and refuses what loses accuracy.

A candidate is a bundle that a pass made of another one; the search measures and judges all of them beside the
START, and the report says why each was kept, or not.
"""
