"""What sketches tell about activity: windows, stickiness, overlap, retention, the life of users.

Pure: nothing here reads a server or a clock. Each module makes the results of one question, from what
:mod:`..operations.series` or an archive has read; :mod:`.results` has the results themselves.
"""
