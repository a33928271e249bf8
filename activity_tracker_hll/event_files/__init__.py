"""Reading events out of files: access logs, delimited text, JSON lines. Of servers nothing is known here."""
