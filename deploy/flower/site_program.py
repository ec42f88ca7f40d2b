"""What a site runs, for each message, in the place of Flower's program `flwr-clientapp`.

Flower's own program unpacks the bundle that came with the run and imports what it names, and it
sends the texts of exceptions along. This one unpacks nothing: the bundle must be on the site's
list, and what runs is the app that is installed here. An error leaves as a number.

It replaces names inside flwr that are no public interface; therefore flwr is pinned exactly, and a
name that is gone stops the program.
"""

from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

from wardround.deploy.flower import client_app
from wardround.deploy.flower.bundle import digest_of
from wardround.shared.errors import IdentityError, WireError

# Not `from ... import run_clientapp`: the command's module hides it behind the function.
PROGRAM = import_module("flwr.supernode.runtime.run_clientapp")


def main(*allowed: str) -> None:
    """Answer one message; Flower's arguments are on the command line.

    Args:
        allowed: Digests of the bundles that may run at this site.

    Raises:
        WireError: The installed flwr is not the pinned release.
    """
    Guard(PROGRAM, allowed).take_over()
    flwr_clientapp()


class Guard:
    """What stands between Flower's program and the site.

    Args:
        program: The module of Flower's program.
        allowed: Digests of the bundles that may run at this site.

    Raises:
        WireError: The module lacks a name that the guard replaces.
    """

    def __init__(self, program: Any, allowed: Collection[str]) -> None:
        self._program, self._allowed = program, allowed
        self._is_refused = False
        self._replaced: dict[str, Callable[..., Any]] = {
            "install_from_fab": self.unpack,
            "install_app_dependencies": self.install,
            "get_load_client_app_fn": self.load,
            "push_message": self.push,
        }
        gone = [name for name in self._replaced if not callable(getattr(program, name, None))]
        if gone:
            raise WireError(
                f"the installed flwr has no {', '.join(gone)} in {program.__name__}, so this site "
                f"cannot be guarded. Install the release of flwr that wardround pins."
            )
        self._push: Callable[..., None] = program.push_message

    def take_over(self) -> None:
        """Replace what in Flower's program unpacks, installs, imports and sends."""
        for name, replacement in self._replaced.items():
            setattr(self._program, name, replacement)

    def unpack(self, bundle: bytes, **_: object) -> None:
        """Check that a bundle is allowed, and unpack nothing.

        Raises:
            IdentityError: It is not.
        """
        if digest_of(bundle) not in self._allowed:
            self._is_refused = True
            raise IdentityError(
                f"the run's bundle has digest {digest_of(bundle)}, allowed here are "
                f"{', '.join(sorted(self._allowed)) or 'none'}. Nothing of it was unpacked. Have "
                f"the run started with an allowed bundle (wardround flower bundle)."
            )

    def install(self, *_: object, **__: object) -> None:
        """Refuse to install packages that a bundle asks for.

        Raises:
            IdentityError: Always.
        """
        raise IdentityError(
            "Flower was told to install packages that a bundle asks for. Start the SuperNode "
            "without --allow-runtime-dependency-installation."
        )

    def load(self, **_: object) -> Callable[..., ClientApp]:
        """Return what gives the app that is installed here, whatever the bundle names."""
        return lambda *_: client_app.app

    def push(self, client: Any, reply: Message, context: Any) -> None:
        """Send a reply; of an error its number alone."""
        if reply.has_error():
            code = ErrorCode.INVALID_FAB if self._is_refused else reply.error.code
            reply.error = Error(code=code, reason="")
        self._push(client, reply, context)
