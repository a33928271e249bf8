"""HyperLogLog itself: hash, registers, format, estimators. No sockets, clocks or threads in here."""
