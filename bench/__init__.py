"""Runnable benchmarks: each puts us beside a peer in the same run and prints the ratio."""
