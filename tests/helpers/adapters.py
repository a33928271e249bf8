"""A writer that is told something, and functions as an application has them."""


class Noted:
    """A writer that notes what it is told."""

    def __init__(self):
        self.told = []

    def track(self, *, id, bucket, old_id, old_bucket):
        self.told.append((id, bucket, old_id, old_bucket))

    def flush(self):
        self.told.append("flush")


class NotedAsync(Noted):
    async def flush(self):
        self.told.append("flush")


ANN = ("ann", "member", None, None)


def by_user(request):
    return (request["user"], "member")


def fault(_request):
    raise RuntimeError("my own")


async def awaited(_request):
    return ("a",)
