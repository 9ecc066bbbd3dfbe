"""What is malformed in a template of Jinja is reported with its column, though Jinja knows its line alone."""

from __future__ import annotations

import pytest

from confpy.errors import TemplateError
from tests.rendering import text


@pytest.mark.parametrize(
    ("template", "line", "column"),
    [
        ("a\nb {{ 1 + }} c", 2, 10),
        ("{% if %}x{% endif %}", 1, 7),
        ("ab {% if a %} {% endfor %}", 1, 18),
        ("{{ a | nofilter }}", 1, 8),
        ("{{ a is nothing_known }}", 1, 9),
        ("x {{ a b }}", 1, 8),
        ("\n{{ a ! b }}", 2, 6),
        ("\n\n  {% for x y %}", 3, 12),
        ("{% if a %}\n text", 1, None),
        ("{{ 'a' ~ }}", 1, 10),
        ("{% raw %}{{ a b }}{% endraw %}{# {{ a b }} #}{{ 'x y' }}{{ a b }}", 1, 62),
    ],
)
def test_a_malformed_template_is_reported_with_its_column(template, line, column):
    with pytest.raises(TemplateError) as caught:
        text(template, {})
    assert (caught.value.where["line"], caught.value.where.get("column")) == (line, column)


def test_an_end_that_is_missing_has_its_line_at_least():
    with pytest.raises(TemplateError) as caught:
        text("\n{{ getv('/a' }}", {})
    assert caught.value.where["line"] == 2
