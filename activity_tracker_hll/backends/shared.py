"""What a writer sends with where it uses the connections of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import BaseBackend, Command, Reply

__all__ = ["Shared"]


class Shared(BaseBackend):
    """A backend of somebody else's: to close this leaves it open."""

    def __init__(self, backend: BaseBackend, **settings: Any) -> None:
        super().__init__(**settings)
        self._backend = backend

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        return self._backend.execute(commands, shard)

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BackendSettings.check_shard`."""
        self._backend.check_shard(shard)

    def close(self) -> None:
        """Nothing: whoever made the backend closes it."""
