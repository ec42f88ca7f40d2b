"""Which certificates were revoked, read from the authority's register whenever that has changed."""

from pathlib import Path

from wardround.server.authority import REGISTER_FILE, Authority


class Revocations:
    """The revoked serial numbers of an authority.

    Args:
        folder: Of the authority, or one with a copy of its register.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder)
        self._register = folder / REGISTER_FILE
        self._read: tuple[tuple[int, int, int], frozenset[int]] | None = None

    def __call__(self) -> frozenset[int]:
        """Return the serial numbers of all revoked certificates.

        Raises:
            IdentityError: The register cannot be read, or holds a faulty line.
        """
        try:
            found = self._register.stat()
        except OSError:
            return self._authority.revoked_serials()  # which says what is wrong
        version = (found.st_mtime_ns, found.st_size, found.st_ino)
        if self._read is None or self._read[0] != version:
            # Its version is from before it was read, so a line that comes meanwhile is not missed.
            self._read = (version, self._authority.revoked_serials())
        return self._read[1]
