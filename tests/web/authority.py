"""Certificates by an authority that is made for a test and thrown away, with the program openssl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no program openssl")
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
# `openssl ca` is what gives a certificate a span of time that lies in the past, in all versions.
_CA = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Certificate:
    """Files of a server: what it shows, and its key."""

    chain: Path
    key: Path


class Authority:
    """An authority of a test's own.

    Attributes:
        certificate: the file that a client trusts it by.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.certificate, self._key = folder / "authority.pem", folder / "authority.key"
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(_CA.format(folder=folder), encoding="ascii")
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        self._openssl(
            *("req", "-x509", *_CURVE, "-keyout", self._key, "-out", self.certificate, "-days", "2"),
            *("-subj", "/CN=An authority of a test", *(word for one in extensions for word in ("-addext", one))),
        )

    def server(
        self,
        name: str,
        *,
        begins: str = "20200101000000Z",
        ends: str = "20990101000000Z",
        purpose: str = "serverAuth",
    ) -> Certificate:
        """Returns the certificate of a server whose only name is `name`, valid between two moments, for a purpose."""
        stem = self._folder / f"{name}-{begins}-{ends}-{purpose}"
        request, chain, key, more = (stem.with_name(f"{stem.name}.{kind}") for kind in ("csr", "pem", "key", "ext"))
        self._openssl("req", "-new", *_CURVE, "-keyout", key, "-out", request, "-subj", "/CN=a board")
        kind = "IP" if name.replace(".", "").isdigit() else "DNS"
        more.write_text(
            f"subjectAltName={kind}:{name}\nbasicConstraints=CA:FALSE\nextendedKeyUsage={purpose}\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
            encoding="ascii",
        )
        self._openssl(
            *("ca", "-batch", "-notext", "-config", self._folder / "ca.cnf", "-cert", self.certificate),
            *("-keyfile", self._key, "-in", request, "-out", chain, "-extfile", more),
            *("-startdate", begins, "-enddate", ends),
        )
        return Certificate(chain, key)

    def _openssl(self, *words: object) -> None:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
