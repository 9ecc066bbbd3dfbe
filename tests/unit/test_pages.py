"""How pages of the manual are read, and compared with what commands print."""

from __future__ import annotations

import pytest

from tests.pages import Typed, shows, typed


@pytest.mark.parametrize(
    ("page", "printed", "same"),
    [
        (["a b"], ["a   b"], True),
        (["a b"], ["a c"], False),
        (["a", "…"], ["a"], True),
        (["a", "…"], ["a", "b", "c"], True),
        (["…", "c"], ["a", "b", "c"], True),
        (["…", "b"], ["a", "b", "c"], False),
        (["a … d"], ["a b c d"], True),
        (["a … d"], ["a b c"], False),
        (["a"], [], False),
        ([], ["a"], False),
        (["took=0.1, 3 s"], ["took=2.75, 41 s"], True),
        (["2026-01-01T12:00:00Z a"], ["2031-12-03T01:02:03Z a"], True),
        (["f142536b > c1b366ef"], ["00aa11bb > 22cc33dd"], True),
        (["revision 3"], ["revision 4"], False),
        (["10.0.0.1:80"], ["10.0.0.2:80"], False),
    ],
)
def test_a_page_shows_what_was_printed_where_only_times_and_digests_differ(page, printed, same):
    assert shows(page, printed) == same


def test_commands_are_told_from_what_they_print():
    text = "$ one \\\n  -flag\nprinted\n\n$ cat > f << 'END'\n$HOME\nEND\n$ two\nlast\n"
    assert [*typed(text)] == [
        Typed("one \\\n  -flag", ("printed", "")),
        Typed("cat > f << 'END'\n$HOME\nEND", ()),
        Typed("two", ("last",)),
    ]
