"""An authority that signs certificates for the servers and clients of a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Keeps ``ca.pem`` and what it signs in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl("req", "-x509", *KEY, "-subj", "/CN=test CA", "-days", "3", "-keyout", "ca.key", "-out", "ca.pem")

    def issue(self, name: str, *also: str, uses: str = "serverAuth,clientAuth", field: str = "CN") -> tuple[Path, Path]:
        """Return certificate and key, good for ``uses``; ``also`` as in ``IP:127.0.0.1``.

        ``name`` is the subject's ``field``, and one of its alternative names.
        """
        self._openssl("req", *KEY, "-subj", f"/{field}={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        names = ",".join((f"DNS:{name}", *also))
        (self.folder / "extensions").write_text(f"subjectAltName={names}\nextendedKeyUsage={uses}\n")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions"]
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def shown(self, certificate_and_key: Iterable[Path] = ()) -> dict[str, str]:
        """Return the settings of somebody who trusts it, and shows a certificate."""
        names = ("client_ca_keys", "client_cert", "client_key")
        return dict(zip(names, map(str, (self.ca, *certificate_and_key)), strict=False))

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
