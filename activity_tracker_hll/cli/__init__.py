"""The command line: one module a command, :mod:`.app` has the group and its global options.

Nothing is imported here: it all needs the extra ``cli``.
"""
