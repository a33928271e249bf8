"""The command line: a module for each command; :mod:`.app` has their group and its global options.

Nothing is imported here, because everything needs the extra ``cli``.
"""
