"""The way of what devices send, in stages: parse, limit, keep, tell.

A stage is a function from a batch and the time to a batch: it touches nothing outside and blames nobody for
another's message. What it does not let through, it leaves in `refused`. Only `keep` and `tell` write, in
short transactions, and may run twice for the same message without changing anything the second time.
"""
