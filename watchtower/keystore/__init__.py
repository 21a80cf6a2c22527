"""Secrets encrypted at rest: one append-only file, one sealed line per secret.

The first line holds a random data key, sealed under a key that scrypt makes from the passphrase; every further
line holds one secret, sealed under the data key with ChaCha20-Poly1305. The associated data of a line bind the
format version, the file, the position and the name of the secret, so lines can be neither exchanged, moved nor
left out in the middle. A line is durable (fsync) before `put` returns; a last line without its newline was
never acknowledged and is dropped at the next opening. Secrets are opened one at a time when they are asked
for: an idle process holds the data key only.

Not promised: Python can wipe only what is mutable, and cutting whole lines off the end cannot be seen from the
file alone; the event log says which secrets must exist.
"""

from watchtower.keystore.errors import (
    KeystoreConflict,
    KeystoreCorrupt,
    KeystoreError,
    KeystoreLocked,
    KeystoreMissing,
    WrongPassphrase,
)
from watchtower.keystore.file_keystore import MAX_SECRET, FileKeystore
from watchtower.keystore.passphrases import (
    MAX_PASSPHRASE_FILE,
    PASSPHRASE_NAME,
    fitting_passphrase,
    new_passphrase,
    open_with_file,
    read_passphrase,
    read_passphrase_line,
    replace_passphrase,
)
from watchtower.keystore.sealing import SCRYPT_COST
from watchtower.keystore.transport import TransportSeal

__all__ = [
    "MAX_PASSPHRASE_FILE",
    "MAX_SECRET",
    "PASSPHRASE_NAME",
    "SCRYPT_COST",
    "FileKeystore",
    "KeystoreConflict",
    "KeystoreCorrupt",
    "KeystoreError",
    "KeystoreLocked",
    "KeystoreMissing",
    "TransportSeal",
    "WrongPassphrase",
    "fitting_passphrase",
    "new_passphrase",
    "open_with_file",
    "read_passphrase",
    "read_passphrase_line",
    "replace_passphrase",
]
