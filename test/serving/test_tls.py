"""The server behind a proxy that ends TLS: wss:// works; an unknown certificate is refused."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from serving_helpers import WAIT, SteppedPolicy, libero, served

from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.serving.client.opening import connect_policy

pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")
PIECE = 65536


class TlsProxy:
    """Ends TLS and hands the bytes on, as a reverse proxy does."""

    def __init__(self, certificate: Path, key: Path, target: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._context = context
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError):  # also a client that does not trust the certificate
            near = self._context.wrap_socket(plain, server_side=True)
            far = socket.create_connection(("127.0.0.1", self._target))
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: no certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "gpu-box.pem", folder / "gpu-box.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@contextmanager
def behind_tls(certificate, policy, **settings):
    with served(policy, **settings) as running:
        proxy = TlsProxy(*certificate, running.port)
        try:
            yield f"wss://localhost:{proxy.port}"
        finally:
            proxy.close()


def test_a_remote_policy_acts_through_tls(certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    key = tmp_path / "key"
    key.write_text("open sesame\n")
    image = np.full((48, 64, 3), 51, dtype=np.uint8)
    with behind_tls(certificate, SteppedPolicy(), api_key="open sesame") as url:
        far = connect_policy(url, timeout=WAIT, api_key_file=str(key))
        chunk = far.act(Observation([image, image], "push", np.zeros(8)))
        far.close()
        with pytest.raises(CheckpointError, match=r"401.*API key"):
            connect_policy(url, timeout=WAIT)
    np.testing.assert_allclose(chunk.actions[0, :2], [1.0, 0.2], atol=1e-6)


def test_openpis_client_acts_through_tls(certificate, monkeypatch):
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with behind_tls(certificate, SteppedPolicy()) as url:
        reply = client.WebsocketClientPolicy(url).infer(libero(51))
    assert reply["actions"].shape == (4, 7)


def test_a_certificate_nobody_vouches_for_is_refused(certificate, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with (
        behind_tls(certificate, SteppedPolicy()) as url,
        pytest.raises(CheckpointError, match="certificate verify failed"),
    ):
        connect_policy(url, timeout=WAIT)
