"""Reading events from files: access logs, delimited text, JSON. Nothing here knows about servers."""
