"""Reading events from files: access logs, delimited text, JSON lines. Nothing here knows about servers."""
