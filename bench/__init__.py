"""Lunette's benchmarks: `python -m bench` compares with peers, `bench/test_*.py` measures the parts."""
