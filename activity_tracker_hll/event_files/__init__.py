"""Reading events from files: access logs, delimited text, JSON, Parquet, Feather. It knows no servers.

Access logs need the extra ``cli``, tables the extra ``arrow``; the rest needs none.
"""
