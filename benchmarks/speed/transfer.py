"""`transfer`: upload and download of one large file, plain and over TLS.

Ceiling: a blocking socket that sends the file in reads of 1 MiB, or receives it and splits it into lines. Reference: the
best way of httpx, a body read on the event loop. Baseline: the official SDK. The service is a process of its own.
"""

import contextlib
import datetime as dt
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
from benchmarks.speed import rig, workload
from benchmarks.speed.measure import Meter, Report, Way, compare
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from openai import AsyncOpenAI

from groupage.clock import SystemClock
from groupage_worker.azure.client import AzureClient
from groupage_worker.azure.tls import tls_context
from groupage_worker.jsonl import LineSplitter

BLOCK_BYTES = 1 << 20
LINE_COUNT = 100_000


def run(*, repetitions: int, scale: float) -> Report:
    """Measure all ways."""
    report = Report("transfer", unit="MB")
    with rig.scratch() as folder:
        content = folder / "content.jsonl"
        lines = workload.output_lines([rig.custom_id(f"{i:032x}") for i in range(int(LINE_COUNT * scale))])
        content.write_bytes(b"".join(lines))
        size_mb = content.stat().st_size / 1e6
        report.note = f"One file of {size_mb:.0f} MB."
        certificate, key = _certificate(folder)
        os.environ["SSL_CERT_FILE"] = str(certificate)
        tls_context.cache_clear()  # another benchmark of this process may have asked before
        with service_of(content) as plain, service_of(content, certificate, key) as tls:
            ways = []
            for kind, url in (("", plain), (" TLS", tls)):
                ways += [
                    Way(f"upload{kind}", "product", _of(_upload, url, content)),
                    Way(f"raw upload{kind}", "ceiling", _of(_raw_upload, url, content)),
                    Way(f"httpx upload{kind}", "reference", _of(_httpx_upload, url, content)),
                    Way(f"download{kind}", "product", _of(_download, url, content)),
                    Way(f"raw download{kind}", "ceiling", _of(_raw_download, url, content)),
                ]
            ways.append(Way("SDK upload", "baseline", _of(_sdk_upload, plain, content)))
            compare(report, ways, repetitions=repetitions, server_pid=None)
    for kind in ("", " TLS"):
        report.ratio(f"upload / httpx{kind}", f"upload{kind}", f"httpx upload{kind}", at_least=0.9)
        report.ratio(f"upload / raw{kind}", f"upload{kind}", f"raw upload{kind}", at_least=0.5)
        report.ratio(f"upload / raw{kind}", f"upload{kind}", f"raw upload{kind}", of="cpu", guards=False)
        report.ratio(f"download / raw{kind}", f"download{kind}", f"raw download{kind}")
    report.ratio("upload / SDK", "upload", "SDK upload", guards=False)
    return report


def _of(way, url: str, content: Path):
    return lambda meter: way(meter, url, content)


@contextlib.contextmanager
def service_of(content: Path, *tls: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.speed.sink", str(content), *map(str, tls)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(child.stdout.readline())
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    finally:
        child.communicate()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A throw-away certificate of this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[AzureClient]:
    settings = rig.settings_of(endpoint=url, http={"trust_env": True})
    client = AzureClient("one", settings.regions["one"], settings.http, clock=SystemClock())
    try:
        yield client
    finally:
        await client.aclose()


async def _upload(meter: Meter, url: str, content: Path) -> None:
    async with client_of(url) as client:
        with meter:
            await client.upload(content, name="x.jsonl", expires_after_s=None)
    meter.units = content.stat().st_size / 1e6


async def _download(meter: Meter, url: str, content: Path) -> None:
    splitter, lines = LineSplitter(), 0
    async with client_of(url) as client:
        with meter:
            async with client.content("file-1") as chunks:
                async for chunk in chunks:
                    for _ in splitter.feed(chunk):
                        lines += 1
    meter.units = content.stat().st_size / 1e6


async def _httpx_upload(meter: Meter, url: str, content: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        with content.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    size = content.stat().st_size
    async with httpx.AsyncClient(timeout=60) as client:
        with meter:
            await client.post(f"{url}/files", content=body(), headers={"content-length": str(size)})
    meter.units = size / 1e6


async def _sdk_upload(meter: Meter, url: str, content: Path) -> None:
    async with AsyncOpenAI(base_url=url, api_key="none") as client:
        with meter:
            await client.files.create(file=content, purpose="batch")
    meter.units = content.stat().st_size / 1e6


def _connected(url: str) -> socket.socket:
    parts = httpx.URL(url)
    connection = socket.create_connection(("127.0.0.1", parts.port))
    if parts.scheme == "https":
        return ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")
    return connection


async def _raw_upload(meter: Meter, url: str, content: Path) -> None:
    size = content.stat().st_size
    with _connected(url) as connection, meter, content.open("rb", buffering=0) as file:
        connection.sendall(f"POST /files HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode())
        while block := file.read(BLOCK_BYTES):
            connection.sendall(block)
        connection.recv(65_536)
    meter.units = size / 1e6


async def _raw_download(meter: Meter, url: str, content: Path) -> None:
    size = content.stat().st_size
    splitter, lines, left = LineSplitter(), 0, size
    with _connected(url) as connection, meter:
        connection.sendall(b"GET /files HTTP/1.1\r\nhost: x\r\n\r\n")
        _, _, chunk = connection.recv(65_536).partition(b"\r\n\r\n")
        while True:
            left -= len(chunk)
            for _ in splitter.feed(chunk):
                lines += 1
            if left <= 0:
                break
            chunk = connection.recv(65_536)
    meter.units = size / 1e6
