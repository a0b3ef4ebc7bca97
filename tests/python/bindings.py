"""Channel bindings of the kind that Extended Protection asks for: tls-server-end-point (RFC 5929, section 4.1)."""

import hashlib

from cryptography import x509
from spnego.channel_bindings import GssChannelBindings


def to(certificate: bytes) -> GssChannelBindings:
    """Bindings to a certificate in DER."""
    used = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    name = "sha256" if used is None or used.name in ("md5", "sha1") else used.name
    digest = hashlib.new(name, certificate).digest()
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest)
