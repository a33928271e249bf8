"""What replies say."""

import pytest

from activity_tracker_hll import BackendError
from activity_tracker_hll.backends.base import OF_FAILURE, OF_NODE
from activity_tracker_hll.operations.base import by_node


@pytest.mark.parametrize(
    ("reply", "lines"),
    [
        (b"", {"": []}),
        (b"a\r\nb\r\n", {"": ["a", "b"]}),
        (f"{OF_NODE}h:1\r\na\r\n{OF_NODE}h:2\r\nb\r\n".encode(), {"h:1": ["a"], "h:2": ["b"]}),
        (BackendError("refused"), {"": [f"{OF_FAILURE}refused"]}),
    ],
)
def test_what_nodes_tell(reply, lines):
    """Of a cluster nothing is told by no node, which would be an answer without a problem."""
    told = {
        node: [line for line in of if not line.startswith(OF_NODE)] for node, of in by_node(reply).items()
    }
    assert told == lines
