"""The contestants of `bench_peers.py`: one file each, and what they share.

Every contestant runs in a process of its own, started by the driver with the interpreter that has
the contestant's packages, as `python -m peers.NAME`. `protocol.py` is how the two talk.
"""
