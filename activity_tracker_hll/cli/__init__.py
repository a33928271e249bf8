"""The command line: a module for each command; :mod:`.app` has their group and how errors are reported.

Nothing is imported here, because everything needs the extra ``cli``.
"""

__all__ = ["PROGRAM"]

PROGRAM = "activity-tracker-hll"
