"""Parts of `bench_methods.py`: rounds of three methods, and how others would write them.

`torch_*`, `job`, `protocol` and `architectures` run under an interpreter that has PyTorch and need
nothing of `fedjax_kd`.
"""
