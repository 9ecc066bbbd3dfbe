"""The manual's way to see that new workers of nginx serve a file, where confpy cannot see its processes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.e2e.running import ROOT, run_once
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.traffic import ask

MANUAL = (ROOT / "docs" / "commands.md").read_text()
CONFIG = """\
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{block}
    server {{
        listen 127.0.0.1:{port};
        return 200 "{{{{ getv("/services/web/a") }}}}";
    }}
}}
"""


def test_a_reload_ends_when_nginx_serves_the_new_file_and_fails_where_it_goes_on_with_the_old(tmp_path: Path) -> None:
    (block,) = re.findall(r"```nginx\n(# version.*?)```", MANUAL, re.DOTALL)
    (verify,) = re.findall(r'^(verify_cmd = """.*?""")$', MANUAL, re.DOTALL | re.MULTILINE)
    port, version_port = free_port(), free_port()
    assert "8405" in block
    confdir, target = tmp_path / "confdir", tmp_path / "nginx.conf"
    for folder in ("conf.d", "templates"):
        (confdir / folder).mkdir(parents=True)
    text = CONFIG.format(folder=tmp_path, block=block, port=port).replace("8405", str(version_port))
    (confdir / "templates" / "nginx.conf.j2").write_text(text)
    verify = verify.replace("8405", str(version_port))
    assert "curl" in tomllib.loads(verify)["verify_cmd"]

    def run(value: str, reload: str) -> int:
        (tmp_path / "keys.yaml").write_text(f'services: {{web: {{a: "{value}"}}}}\n')
        (confdir / "conf.d" / "web.toml").write_text(
            f'[template]\nsrc = "nginx.conf.j2"\ndest = "{target}"\nkeys = ["/services/web"]\n'
            f'reload_cmd = "{reload}"\nreload_cmd_timeout = "3s"\n{verify}\n'
        )
        flags = ["-backend", "file", "-file", str(tmp_path / "keys.yaml"), "-confdir", str(confdir)]
        return run_once(*flags, *(["-no-reload"] if not reload else []), folder=tmp_path).code

    assert run("one", "") == 0
    with Nginx(target, port=port):
        assert ask(port) == (200, "one")
        assert run("two", f"nginx -s reload -c {target}") == 0
        assert ask(port) == (200, "two")
        assert run("three", "true") == 7, "nobody has told nginx"
        assert ask(port) == (200, "two")
