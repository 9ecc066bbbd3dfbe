"""``confpy convert`` on files: where things go, what stays as it is, and what is reported."""

from __future__ import annotations

import pytest

from confpy import cli

RESOURCE = """\
# the web
[template]   # of confd
dest = "/run/src"
src  =  'web.cfg.tmpl' # keep me
keys = [ "/web" ]
check_cmd = "true {{.src}}"
"""


@pytest.fixture
def confd(tmp_path):
    """A confdir as confd has it."""
    folder = tmp_path / "confd"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "templates").mkdir()
    (folder / "conf.d" / "web.toml").write_text(RESOURCE)
    (folder / "templates" / "web.cfg.tmpl").write_text('port {{getv "/web/port"}}\n')
    (folder / "confd.toml").write_text(f'backend = "env"\nconfdir = "{folder}"\n')
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def convert(*arguments):
    return cli.main(["convert", *map(str, arguments)])


def test_a_confdir_becomes_the_one_beside_it_and_stays_as_it_was(confd, tmp_path, capfd):
    before = files_of(confd)
    assert convert(confd) == 0
    assert files_of(confd) == before
    assert files_of(tmp_path / "confpy") == {
        "conf.d/web.toml": RESOURCE.replace("web.cfg.tmpl", "web.cfg.j2"),
        "templates/web.cfg.j2": 'port {{ getv("/web/port") }}\n',
        "confd.toml": before["confd.toml"].replace(str(confd), str(tmp_path / "confpy")),
    }
    out = capfd.readouterr().out
    assert '-port {{getv "/web/port"}}\n+port {{ getv("/web/port") }}\n' in out
    assert "--- conf.d/web.toml\n+++ conf.d/web.toml\n" in out


def test_what_was_converted_before_is_no_obstacle_but_what_was_changed_since_is(confd, tmp_path, capfd):
    assert convert(confd) == convert(confd) == 0
    (tmp_path / "confpy" / "templates" / "web.cfg.j2").write_text("by hand")
    (tmp_path / "confpy" / "conf.d" / "web.toml").unlink()
    assert convert(confd) == 2
    assert "the file exists with other content: nothing was written" in capfd.readouterr().err
    assert files_of(tmp_path / "confpy")["templates/web.cfg.j2"] == "by hand"
    assert not (tmp_path / "confpy" / "conf.d" / "web.toml").exists()


@pytest.mark.parametrize("dest", ["confd", "confd/conf.d", "confd/templates/new"])
def test_a_confdir_is_not_converted_in_place(confd, tmp_path, capfd, dest):
    before = files_of(confd)
    assert convert(confd, tmp_path / dest) == 2
    assert "not converted in place" in capfd.readouterr().err
    assert files_of(confd) == before


def test_a_template_and_a_folder_of_them_go_beside_the_originals_or_where_it_is_said(confd, tmp_path):
    template = confd / "templates" / "web.cfg.tmpl"
    assert convert(template) == convert(template) == convert(confd / "templates") == 0
    assert convert(template, tmp_path / "new.j2") == 0
    assert convert(confd / "templates", tmp_path / "other") == 0
    wanted = 'port {{ getv("/web/port") }}\n'
    assert (confd / "templates" / "web.cfg.j2").read_text() == wanted
    assert (tmp_path / "new.j2").read_text() == wanted
    assert files_of(tmp_path / "other") == {"web.cfg.j2": wanted}


def test_permission_bits_are_those_of_the_original(confd, tmp_path):
    (confd / "templates" / "web.cfg.tmpl").chmod(0o640)
    assert convert(confd) == 0
    assert (tmp_path / "confpy" / "templates" / "web.cfg.j2").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ('[template]\nsrc = "/web.cfg.tmpl"\n', '[template]\nsrc = "/web.cfg.j2"\n'),
        ('template.dest="src"\ntemplate."src"="web.cfg.tmpl"', 'template.dest="src"\ntemplate."src"="web.cfg.j2"'),
        ('template = {src="web.cfg.tmpl", dest="x"}', 'template = {src="web.cfg.j2", dest="x"}'),
        ('# src = "a"\n[Template]\nSRC="web.cfg.tmpl"\r\n', '# src = "a"\n[Template]\nSRC="web.cfg.j2"\r\n'),
        ('[template]\nsrc="web.cfg.tmpl"\nengine = "go"\n', '[template]\nsrc="web.cfg.j2"\nengine = "jinja"\n'),
        (
            "[template]\nx=\"src='web.cfg.tmpl'\"\nsrc='web.cfg.tmpl'",
            "[template]\nx=\"src='web.cfg.tmpl'\"\nsrc='web.cfg.j2'",
        ),
    ],
)  # fmt: skip
def test_nothing_of_a_resource_changes_but_the_template_that_it_names(confd, tmp_path, written, wanted):
    (confd / "conf.d" / "web.toml").write_bytes(written.encode())
    assert convert(confd) == 0
    assert (tmp_path / "confpy" / "conf.d" / "web.toml").read_bytes() == wanted.encode()


def test_jinja_stays_jinja_and_what_cannot_be_read_is_copied_and_reported(confd, tmp_path, capfd):
    (confd / "templates" / "a.j2").write_text('{{ getv("/a") }}')
    (confd / "templates" / "bad.tmpl").write_text("\n{{range}}")
    (confd / "conf.d" / "bad.toml").write_text('[template]\nsrc = "bad.tmpl"\ndest = "/x"\n')
    (confd / "conf.d" / "broken.toml").write_text("[template")
    (confd / "conf.d" / "away.toml").write_text('[template]\nsrc = "../x.tmpl"\ndest = "/x"\n')
    before = files_of(confd)
    assert convert(confd) == 4
    err = capfd.readouterr().err
    assert f"{confd}/templates/bad.tmpl:2: missing value for range" in err
    assert f"{confd}/conf.d/broken.toml" in err
    assert f"{confd}/conf.d/away.toml: its template ../x.tmpl is not below templates/" in err
    after = files_of(tmp_path / "confpy")
    for path in ("templates/a.j2", "templates/bad.tmpl", "conf.d/bad.toml", "conf.d/broken.toml", "conf.d/away.toml"):
        assert after[path] == before[path]


def test_a_template_of_before_confd_0_6_is_reported(confd, capfd):
    (confd / "templates" / "web.cfg.tmpl").write_text("\n{{.services_web}}")
    assert convert(confd) == 4
    assert "web.cfg.tmpl:2: .services_web is no value" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "confpy convert needs what to convert"),
        (("a", "b", "c"), "confpy convert needs what to convert"),
        (("/nowhere/at/all",), "there is nothing to convert"),
        (("/", "-no-such-flag"), "unknown flag -no-such-flag"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_in_usage(capfd, arguments, message):
    assert convert(*arguments) == 2
    assert message in capfd.readouterr().err


def test_a_confdir_of_another_name_and_a_part_of_one_need_words(confd, capfd):
    assert convert(confd / "conf.d") == 2
    assert convert(confd.rename(confd.parent / "mine")) == 2
    err = capfd.readouterr().err
    assert "this is a part of a confdir" in err
    assert "DEST is missing for the new confdir" in err


def test_names_do_not_collide(confd, tmp_path):
    (confd / "templates" / "web.cfg.tpl").write_text("2")
    (confd / "templates" / "web.cfg.j2").write_text("{{ 3 }}")
    assert convert(confd) == 0
    made = files_of(tmp_path / "confpy")
    assert made["templates/web.cfg.j2"] == "{{ 3 }}"
    assert made["templates/web.cfg.tmpl.j2"] == 'port {{ getv("/web/port") }}\n'
    assert made["templates/web.cfg.tpl.j2"] == "2"
    assert "'web.cfg.tmpl.j2'" in made["conf.d/web.toml"]


def test_verify_says_where_the_bytes_differ_and_never_what_they_are(confd, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WEB_PORT", "8080")
    flags = ["-verify", "-backend", "env"]
    assert convert(confd, *flags) == 0
    assert "web.cfg.tmpl: the same bytes" in capfd.readouterr().out
    assert convert(confd / "templates" / "web.cfg.tmpl", tmp_path / "one.j2", *flags) == 0
    assert "web.cfg.tmpl: the same bytes" in capfd.readouterr().out
    monkeypatch.delenv("WEB_PORT")
    assert convert(confd, *flags) == 0
    assert "fails in both" in capfd.readouterr().out


def test_verify_finds_what_go_refuses_only_when_it_runs(confd, monkeypatch, capfd):
    monkeypatch.setenv("WEB_PORT", '{"text": "abc"}')
    (confd / "templates" / "web.cfg.tmpl").write_text('{{range (json (getv "/web/port")).text}}x{{end}}')
    assert convert(confd, "-verify", "-backend", "env") == 4
    assert "fails, but not as Jinja" in capfd.readouterr().err


def test_hidden_resources_and_templates_are_converted_and_the_new_confdir_runs(confd, tmp_path, capfd):
    (confd / "conf.d" / ".env.toml").write_text('[template]\nsrc = ".env.tmpl"\ndest = "/srv/env"\n')
    (confd / "templates" / ".env.tmpl").write_text('A={{getenv "A"}}\n')
    (confd / "conf.d" / "._env.toml").write_text("of a Macintosh")
    assert convert(confd) == 0
    made = files_of(tmp_path / "confpy")
    assert made["conf.d/.env.toml"] == '[template]\nsrc = ".env.j2"\ndest = "/srv/env"\n'
    assert made["templates/.env.j2"] == 'A={{ getenv("A") }}\n'
    assert "conf.d/._env.toml" not in made
    assert "not below" not in capfd.readouterr().err


def test_a_link_that_leads_nowhere_is_reported_and_stops_nothing_else(confd, tmp_path, capfd):
    (confd / "conf.d" / "gone.toml").symlink_to("nowhere")
    assert convert(confd) == 4
    assert "conf.d/gone.toml: the link leads nowhere" in capfd.readouterr().err
    assert (tmp_path / "confpy" / "conf.d" / "web.toml").exists()


def test_delimiters_of_a_resource_are_those_of_its_template_and_stay(confd, tmp_path, capfd, monkeypatch):
    resource = confd / "conf.d" / "web.toml"
    resource.write_text(resource.read_text() + 'delimiters = ["[[", "]]"]\n')
    template = confd / "templates" / "web.cfg.tmpl"
    template.write_text('{{ $x }} port [[getv "/web/port"]]\n')
    wanted = '{{ $x }} port [[ getv("/web/port") ]]\n'
    monkeypatch.setenv("WEB_PORT", "80")
    assert convert(confd, "-verify", "-backend", "env") == 0
    made = files_of(tmp_path / "confpy")
    assert made["templates/web.cfg.j2"] == wanted
    assert made["conf.d/web.toml"].endswith('delimiters = ["[[", "]]"]\n')
    assert convert(template, "-verify", "-backend", "env") == 0
    assert (confd / "templates" / "web.cfg.j2").read_text() == wanted
    assert capfd.readouterr().out.count("the same bytes") == 2


def test_a_field_of_no_data_is_reported_with_what_confd_makes_of_it(confd, capfd):
    template = confd / "templates" / "web.cfg.tmpl"
    template.write_text("{{.services_web}}\n")
    assert convert(template) == 4
    assert capfd.readouterr().err.rstrip() == (
        f"{template}:1: .services_web is no value: a template has no data; "
        'keys are read by getv "/services/web" or gets; '
        'confd prints "<no value>" for it, and counts it as false; so does the new template'
    )


def test_a_resource_that_was_read_by_text_says_what_jinja_needs_for_that(confd, capfd):
    template = confd / "templates" / "web.cfg.tmpl"
    template.write_text('{{range getvs "/web*"}}{{.}}{{end}}\n')
    assert convert(confd) == 4
    assert 'web.toml: the template asks for "/web*", which ends within a segment' in capfd.readouterr().err
    resource = confd / "conf.d" / "web.toml"
    resource.write_text(resource.read_text() + 'keys_match = "text"\n')
    assert convert(confd, confd.parent / "other") == 0
