"""Opening what restic sealed: AES-256-CTR under Poly1305-AES, and zstd, by the C libraries that are on the machine.

The agent lives on the standard library, so both are called by ctypes: the libcrypto that Python's own `ssl` uses, and
libzstd, which Debian's and Ubuntu's package manager needs. Every call leaves Python's lock, so threads use all cores.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hmac
import os
import ssl  # noqa: F401  it loads libcrypto, which is then found among what is mapped
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

NONCE, TAG = 16, 16
EXTENSION = NONCE + TAG
MAPS = Path("/proc/self/maps")
# A sealed list (index, snapshot) does not unpack to more.
MOST_UNPACKED = 256 * 1024 * 1024
# What zstd answers when a frame does not tell its size; restic's does so below 256 bytes.
UNTOLD, SHORT = (1 << 64) - 1, 1024 * 1024


class Unavailable(Exception):
    """This machine's libraries cannot do it."""


class Forged(Exception):
    """What was read is not what was sealed with this key: damage, another key, or another's work."""


@dataclass(frozen=True, slots=True)
class Key:
    """Restic's key: 32 bytes for AES-256, and k and r (16 bytes each) for Poly1305-AES."""

    encrypt: bytes = field(repr=False)
    k: bytes = field(repr=False)
    r: bytes = field(repr=False)


@cache
def _crypto() -> ctypes.CDLL:
    try:
        return _declared(ctypes.CDLL(_mapped("libcrypto") or ctypes.util.find_library("crypto") or "libcrypto.so.3"))
    except (OSError, AttributeError) as bad:
        raise Unavailable(f"libcrypto 3 cannot be used: {bad}") from bad


def _mapped(name: str) -> str:
    """The file of this name that the process has loaded, or ""."""
    with suppress(OSError):
        for line in MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            file = line.rpartition(" ")[2]
            if os.path.basename(file).startswith(f"{name}.so"):  # noqa: PTH119
                return file
    return ""


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    p, i, s = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    out = ctypes.POINTER(ctypes.c_int)
    for name, result, takes in (
        ("EVP_CIPHER_CTX_new", p, []),
        ("EVP_CIPHER_CTX_free", None, [p]),
        ("EVP_CIPHER_CTX_set_padding", i, [p, i]),
        ("EVP_aes_256_ctr", p, []),
        ("EVP_aes_128_ecb", p, []),
        ("EVP_EncryptInit_ex", i, [p, p, p, p, p]),
        ("EVP_EncryptUpdate", i, [p, p, out, p, i]),
        ("EVP_MAC_fetch", p, [p, ctypes.c_char_p, ctypes.c_char_p]),
        ("EVP_MAC_free", None, [p]),
        ("EVP_MAC_CTX_new", p, [p]),
        ("EVP_MAC_CTX_free", None, [p]),
        ("EVP_MAC_init", i, [p, p, s, p]),
        ("EVP_MAC_update", i, [p, p, s]),
        ("EVP_MAC_final", i, [p, p, ctypes.POINTER(s), s]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, takes
    return library


class Buffer:
    """Memory that C functions write to: `view` for Python, `address` for them. It grows and is never given back."""

    def __init__(self, size: int = 0) -> None:
        self.size = 0
        self.need(size or 4096)

    def need(self, size: int) -> None:
        """At least so many bytes. What was in it is lost when it has to grow."""
        if size > self.size:
            self._memory = bytearray(size)
            self.view = memoryview(self._memory)
            self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            self.size = size


class Opener:
    """One thread's means to open what was sealed with one key. Raises Unavailable when the library has no Poly1305."""

    def __init__(self, key: Key) -> None:
        self._c = c = _crypto()
        self._closed = True
        self._ctr, self._ecb = c.EVP_CIPHER_CTX_new(), c.EVP_CIPHER_CTX_new()
        self._mac = c.EVP_MAC_fetch(None, b"POLY1305", None)
        self._closed = False
        self._mac_ctx = c.EVP_MAC_CTX_new(self._mac) if self._mac else None
        if not (self._ctr and self._ecb and self._mac_ctx):
            self.close()
            raise Unavailable("this libcrypto has no Poly1305")
        self._n, self._done = ctypes.c_int(), ctypes.c_size_t()
        self._one_time, self._tag = Buffer(32), Buffer(TAG)
        self._one_time.view[:16] = key.r  # the library clears the bits that restic clears
        self._check(c.EVP_EncryptInit_ex(self._ecb, c.EVP_aes_128_ecb(), None, key.k, None))
        self._check(c.EVP_CIPHER_CTX_set_padding(self._ecb, 0))
        self._check(c.EVP_EncryptInit_ex(self._ctr, c.EVP_aes_256_ctr(), None, key.encrypt, None))

    @staticmethod
    def _check(done: int) -> None:
        if done != 1:
            raise Unavailable("libcrypto refused")

    def open(self, sealed: Buffer, at: int, length: int) -> int:
        """Check and decrypt in place; the text begins at `at + NONCE`. Returns its length. Raises Forged."""
        c, start, size = self._c, sealed.address + at, length - EXTENSION
        if size < 0 or at < 0 or at + length > sealed.size:
            raise Forged("too short")
        check, one_time = self._check, self._one_time.address
        check(c.EVP_EncryptUpdate(self._ecb, one_time + 16, ctypes.byref(self._n), start, NONCE))
        check(c.EVP_MAC_init(self._mac_ctx, one_time, 32, None))
        check(c.EVP_MAC_update(self._mac_ctx, start + NONCE, size))
        check(c.EVP_MAC_final(self._mac_ctx, self._tag.address, ctypes.byref(self._done), TAG))
        if not hmac.compare_digest(self._tag.view[:TAG], sealed.view[at + NONCE + size : at + length]):
            raise Forged("the checksum under the key is wrong")
        check(c.EVP_EncryptInit_ex(self._ctr, None, None, None, start))
        check(c.EVP_EncryptUpdate(self._ctr, start + NONCE, ctypes.byref(self._n), start + NONCE, size))
        return size

    def opened(self, sealed: bytes) -> bytes:
        """The same for a copy. Raises Forged."""
        held = Buffer(len(sealed))
        held.view[: len(sealed)] = sealed
        size = self.open(held, 0, len(sealed))
        return bytes(held.view[NONCE : NONCE + size])

    def close(self) -> None:
        """Give the memory back."""
        if not self._closed:
            self._closed = True
            self._c.EVP_CIPHER_CTX_free(self._ctr)
            self._c.EVP_CIPHER_CTX_free(self._ecb)
            self._c.EVP_MAC_CTX_free(self._mac_ctx)
            self._c.EVP_MAC_free(self._mac)


@cache
def _zstd() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libzstd.so.1")
        p, s = ctypes.c_void_p, ctypes.c_size_t
        for name, result, takes in (
            ("ZSTD_createDCtx", p, []),
            ("ZSTD_freeDCtx", s, [p]),
            ("ZSTD_decompressDCtx", s, [p, p, s, p, s]),
            ("ZSTD_isError", ctypes.c_uint, [s]),
            ("ZSTD_getFrameContentSize", ctypes.c_ulonglong, [p, s]),
        ):
            function: Any = getattr(library, name)
            function.restype, function.argtypes = result, takes
    except (OSError, AttributeError) as bad:
        raise Unavailable(f"libzstd cannot be used: {bad}") from bad
    return library


class Unpacker:
    """One thread's zstd. Raises Unavailable at the first use when there is no libzstd."""

    def __init__(self) -> None:
        self._context: int | None = None

    def unpack(self, packed: Buffer, at: int, length: int, plain: Buffer, size: int) -> None:
        """Decompress to the beginning of `plain`. Raises Forged when it is not exactly `size` bytes."""
        z = self._ready()
        plain.need(size)
        done = z.ZSTD_decompressDCtx(self._context, plain.address, size, packed.address + at, length)
        if z.ZSTD_isError(done) or done != size:
            raise Forged("it does not decompress to what the index says")

    def unpacked(self, packed: bytes) -> bytes:
        """The same for a copy that tells its own size, or is short and tells none. Raises Forged."""
        held = Buffer(len(packed))
        held.view[: len(packed)] = packed
        size = _zstd().ZSTD_getFrameContentSize(held.address, len(packed))
        if size == UNTOLD:
            return self._short(held, len(packed))
        if size > MOST_UNPACKED:  # also what stands for "not zstd"
            raise Forged("its size is too large")
        plain = Buffer(size)
        self.unpack(held, 0, len(packed), plain, size)
        return bytes(plain.view[:size])

    def _short(self, packed: Buffer, length: int) -> bytes:
        z, plain = self._ready(), Buffer(SHORT)
        done = z.ZSTD_decompressDCtx(self._context, plain.address, plain.size, packed.address, length)
        if z.ZSTD_isError(done):
            raise Forged("it does not decompress")
        return bytes(plain.view[:done])

    def _ready(self) -> ctypes.CDLL:
        if self._context is None:
            self._context = _zstd().ZSTD_createDCtx()
        return _zstd()

    def close(self) -> None:
        """Give the memory back."""
        if self._context is not None:
            _zstd().ZSTD_freeDCtx(self._context)
            self._context = None
