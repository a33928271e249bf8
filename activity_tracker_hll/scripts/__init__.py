"""What runs on the server, in Lua, and how it is called: see :mod:`.calls`."""
