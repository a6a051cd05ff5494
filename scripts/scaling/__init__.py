"""Parts of `bench_scaling.py`: what is measured, in a process of its own, and how it is shown."""
