"""Credentials for the processes of one machine, of an authority that is thrown away with them."""

from datetime import UTC, datetime
from pathlib import Path

from wardround.server.authority import init
from wardround.shared.enrolment import install, make_request
from wardround.shared.identity import CA_FILE, Role

HOSTS = ("localhost", "127.0.0.1")


class ThrowawayAuthority:
    """Issues credentials under `root`, one folder each, as a study network's authority does.

    Args:
        root: Folder for the authority and for what it issues; made when it does not exist. It
            holds every private key, so it must not outlive its use.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.authority = init(root / "ca", "throwaway", now=datetime.now(UTC))

    def issue(self, role: Role, name: str) -> Path:
        """Return the folder of a holder's credentials, which are made when first asked for."""
        folder = self._root / f"{role}-{name}"
        if folder.exists():
            return folder
        now = datetime.now(UTC)
        hosts = HOSTS if role is Role.COORDINATOR else ()
        token = self.authority.invite(name, role, now=now, hosts=hosts)
        request = make_request(folder, role, name).read_bytes()
        certificate = self.authority.approve(request, token, now=now)
        trusted = (self.authority.folder / CA_FILE).read_bytes()
        install(folder, certificate, now=datetime.now(UTC), authority=trusted)
        return folder
