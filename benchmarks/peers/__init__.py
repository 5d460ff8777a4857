"""Other implementations of the same work, each in a process of its own.

They need the extra `peers`, which may be installed for another interpreter:
`python -m benchmarks --peers_python PATH`.
"""
