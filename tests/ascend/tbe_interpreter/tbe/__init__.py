"""A stand-in for CANN's ``tbe`` package: records what the DSL describes and runs it with NumPy.

Written from the public documentation alone; it covers what the operators of this repository use. It checks shapes,
types and the use of every placeholder. It does not schedule, tile or compile anything.
"""
