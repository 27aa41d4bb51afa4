"""Servers behind TLS, and the certificate that is to be trusted for them."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path


def self_signed(folder: Path) -> Path:
    path = folder / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            path,
            "-out",
            folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + (folder / "cert.pem").read_text())
    return path


def serve_tls(certificate: Path, answer: bytes) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(8):
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(answer)
                    secure.recv(1)
            except OSError:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])
