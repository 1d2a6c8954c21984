"""Kafka's administration, as far as aiokafka lacks it: rights and passwords; and certificates for all servers."""

import hashlib
import ipaddress
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactBytes, CompactString, Int8, Int16, Int32, Schema, TaggedFields
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

ACLS: Final = Path(__file__).parent.parent / "workers" / "kafka" / "ACLS.md"

# Numbers of Kafka's protocol
_RESOURCES: Final = {"Topic": 2, "Group": 3, "Cluster": 4}
_PATTERNS: Final = {"literal": 3, "prefixed": 4}
_OPERATIONS: Final = {
    "READ": 3, "WRITE": 4, "CREATE": 5, "DELETE": 6, "ALTER": 7, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10,
}  # fmt: skip
_DENY, _ALLOW = 2, 3
_MECHANISMS: Final = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}
_ITERATIONS: Final = 4096


# Rights --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Right:
    """Something that a principal may do."""

    resource: str
    name: str
    pattern: str
    operation: str


def documented(chapter: str, prefix: str) -> list[Right]:
    """Read a chapter's table of the list of rights, for another prefix than `catalog`."""
    (text,) = [part for part in ACLS.read_text().split("\n## ") if part.startswith(chapter)]
    return list(_rights(text, prefix))


def _rights(text: str, prefix: str) -> Iterator[Right]:
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if cells[0] in _RESOURCES:
            resource, name, pattern, operations = cells[:4]
            own = name.replace("catalog.", f"{prefix}.", 1)
            for operation in operations.split(", "):
                yield Right(resource, own, pattern, operation)


async def allow(admin: AIOKafkaAdminClient, principal: str, *rights: Right, deny: bool = False) -> None:
    """Grant rights, or deny them, whatever was granted."""
    for right in rights:
        request = CreateAclsRequest(
            _RESOURCES[right.resource],
            right.name,
            _PATTERNS[right.pattern],
            f"User:{principal}",
            "*",
            _OPERATIONS[right.operation],
            _DENY if deny else _ALLOW,
        )
        ((code, text),) = (await admin._send_to_controller(request)).creation_responses
        assert code == 0, text


# Passwords -----------------------------------------------------------------------------------------------------------


class _PasswordsSet(Response):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _SetPasswords(RequestStruct):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _PasswordsSet
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterUserScramCredentials(Request[_SetPasswords]):  # type: ignore[misc]
    API_KEY = 51

    def __init__(self, user: str, mechanism: str, password: str) -> None:
        number, digest = _MECHANISMS[mechanism]
        salt = secrets.token_bytes(16)
        salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, _ITERATIONS)
        self._upsertion: tuple[object, ...] = (user, number, _ITERATIONS, salt, salted, {})

    def build(self, request_struct_class: type[_SetPasswords]) -> _SetPasswords:
        return request_struct_class([], [self._upsertion], {})


async def set_password(admin: AIOKafkaAdminClient, user: str, password: str) -> None:
    """Give a user a password, for both SCRAM mechanisms."""
    for mechanism in _MECHANISMS:
        response = await admin._send_to_controller(_AlterUserScramCredentials(user, mechanism, password))
        ((_, code, text, _),) = response.results
        assert code == 0, text


# Certificates --------------------------------------------------------------------------------------------------------


class Authority:
    """Signs certificates; all files are PEM, in one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _unsigned(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = builder.add_extension(usage, critical=True).sign(self._key, SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def sign(self, name: str) -> tuple[Path, Path]:
        """Make a key and its certificate, good for 127.0.0.1 and no other host; certificate file and key file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            _unsigned(subject, self._name, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(self._key, SHA256())
        )
        cert_file, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert_file, key_file


def _unsigned(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
