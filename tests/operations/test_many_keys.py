"""Questions about many keys at once."""

import pytest

from activity_tracker_hll import BackendResponseError
from activity_tracker_hll.driving import run
from activity_tracker_hll.operations.many_keys import existing, values
from helpers.errors import raises


@pytest.mark.parametrize("ask", [existing, values])
@pytest.mark.parametrize(("keys", "named"), [(["a"], "^a: try"), (["a", "b"], "^a or 1 other: try")])
def test_what_is_asked_about_is_named_where_there_is_no_answer(ask, keys, named):
    with raises(BackendResponseError, named):
        run(ask([keys]), lambda commands: [BackendResponseError("try again") for _ in commands])
