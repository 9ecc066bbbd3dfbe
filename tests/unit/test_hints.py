"""What an error of a template suggests: right wherever it is printed."""

from __future__ import annotations

import pytest

from confpy.errors import ConfpyError
from tests.rendering import text

KEYS = {"/h/a": "1", "/h/x": "2"}
RAW = "{% raw %}"


@pytest.mark.parametrize(
    ("template", "engine", "hint"),
    [
        ('{{getv "/h"}}', "auto", 'only keys below it: gets "/h/*" reads them, ls "/h" names them'),
        ('{{ getv("/h") }}', "jinja", 'only keys below it: gets "/h/*" reads them, ls "/h" names them'),
        ('{{getv "/h/x/"}}', "auto", "keys end in no slash and have no empty segment: write /h/x"),
        ('{{getv "h/x"}}', "auto", "keys begin with a slash: write /h/x"),
        ('{{get "/h/*"}}', "auto", "patterns are for gets and getvs"),
        ("{% for x in gets('/h/*') %}{{ x.Value }}{% endfor %}", "jinja", "write .value"),
        ("{% for x in gets('/h/*') %}{{ x.Key }}{% endfor %}", "jinja", "write .key"),
        ("{% for x in gets('/h/*') %}{{ x.name }}{% endfor %}", "jinja", "it has .key, .value"),
        ("{% for x in getvs('/h/*') %}{{ x.value }}{% endfor %}", "jinja", "for key, value in gets(...)"),
        ("{{ gets('/h/*').value }}", "jinja", "for key, value in gets(...)"),
        ('{{div (getv "/h/a") 2}}', "auto", "atoi makes a number of a text"),
        ('{{$x := json "{}"}}{{add (index (split "1,2" ",") 0) 2}}', "auto", "atoi makes a number of a text"),
        ('{{range gets "/h/*"}}{{index (split "a,b" ",") .Value}}{{end}}', "auto", "atoi makes a number of a text"),
        ('{{add "1" 2}}', "auto", "a number stands without quotes"),
        ("{{toUpper (add 1 2)}}", "auto", 'printf "%v" makes a text of it'),
        ("{{ kubernetes.pod }}", "jinja", RAW),
        ("{{ $labels.x }}", "jinja", RAW),
        ("{{ .Values.x }}", "jinja", RAW),
        ("{{ $labels.x }}", "auto", RAW),
        ("{{ $labels.x }}", "auto", "delimiters"),
        ("{{ humanize 1 }}", "auto", "delimiters"),
        ("{{ kubernetes.pod }}", "auto", "delimiters"),
        ("{% include 'none' %}", "jinja", "an included template is named by its path below templates/"),
        ('{{include "none"}}', "auto", "an included template is named by its path below templates/"),
    ],
)
def test_a_mistake_of_a_template_is_told_with_what_to_write(template: str, engine: str, hint: str) -> None:
    with pytest.raises(ConfpyError) as caught:
        text(template, KEYS, engine=engine)
    assert hint in caught.value.hint


def test_a_name_that_no_other_program_can_mean_has_no_hint_about_braces() -> None:
    with pytest.raises(ConfpyError) as caught:
        text("{{ ls(kubernetes) }}", KEYS)
    assert caught.value.hint == ""


def test_a_pair_is_not_called_by_the_module_that_it_is_made_in() -> None:
    with pytest.raises(ConfpyError, match=r"^'Pair object' has no attribute 'Value'"):
        text("{{ get('/h/a').Value }}", KEYS)
