"""Whom to trust: the certificate authorities of this process."""

import functools
import ssl

import httpx


@functools.cache
def tls_context(*, trust_env: bool) -> ssl.SSLContext:
    """One context for all regions of a process: reading the certificate authorities takes some 17 ms each time.

    Args:
        trust_env: Whether `SSL_CERT_FILE` and `SSL_CERT_DIR` are followed, as they are at the first call.
    """
    return httpx.create_ssl_context(trust_env=trust_env)
