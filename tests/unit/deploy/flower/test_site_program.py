"""The program that stands in the place of Flower's at a site."""

from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from flwr.app import Error, Message, RecordDict
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from wardround.deploy.flower import bundle, client_app
from wardround.deploy.flower.site_program import PROGRAM, Guard
from wardround.shared.errors import IdentityError, WireError

OWN = bundle.build()


@pytest.fixture
def program() -> SimpleNamespace:
    """A stand-in for the module of Flower's program; `pushed` holds what it sent."""
    pushed: list[Message] = []

    def forbidden(*_, **__):
        raise AssertionError("Flower's own was called")

    return SimpleNamespace(
        __name__="program",
        install_from_fab=forbidden,
        install_app_dependencies=forbidden,
        get_load_client_app_fn=forbidden,
        push_message=lambda client, reply, context: pushed.append(reply),
        pushed=pushed,
    )


@pytest.fixture
def order() -> Message:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    return Message(RecordDict(), 1, "train")


def test_the_pinned_flower_has_what_the_guard_replaces() -> None:
    Guard(PROGRAM, [])


@pytest.mark.parametrize("name", ["install_from_fab", "get_load_client_app_fn", "push_message"])
def test_another_flower_is_not_run(program: SimpleNamespace, name: str) -> None:
    delattr(program, name)
    with pytest.raises(WireError, match=f"no {name} in program"):
        Guard(program, [])


def test_an_allowed_bundle_is_not_unpacked_and_the_installed_app_runs(
    program: SimpleNamespace,
) -> None:
    Guard(program, [bundle.digest()]).take_over()
    program.install_from_fab(OWN, skip_prompt=True)
    load = program.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
    assert load("publisher/name", "1", "hash") is client_app.app


def test_a_bundle_with_a_byte_more_is_refused(program: SimpleNamespace) -> None:
    files = {"pyproject.toml": bundle.FOLDER / "pyproject.toml", "wardround/x.py": b""}
    other, _ = build_fab_from_files(files)
    Guard(program, [bundle.digest()]).take_over()
    with pytest.raises(IdentityError, match="Nothing of it was unpacked"):
        program.install_from_fab(other, skip_prompt=True)


def test_packages_that_a_bundle_asks_for_are_not_installed(program: SimpleNamespace) -> None:
    Guard(program, []).take_over()
    with pytest.raises(IdentityError, match="--allow-runtime-dependency-installation"):
        program.install_app_dependencies("path", launch_id="1")


def test_an_error_leaves_as_its_number(program: SimpleNamespace, order: Message) -> None:
    Guard(program, []).take_over()
    program.push_message(None, Message(Error(code=2, reason="doe_jane.png"), reply_to=order), None)
    (sent,) = program.pushed
    assert (sent.error.code, sent.error.reason) == (2, "")


def test_a_refused_bundle_is_told_as_such(program: SimpleNamespace, order: Message) -> None:
    Guard(program, []).take_over()
    with pytest.raises(IdentityError):
        program.install_from_fab(OWN)
    program.push_message(None, Message(Error(code=2, reason="text"), reply_to=order), None)
    (sent,) = program.pushed
    assert (sent.error.code, sent.error.reason) == (ErrorCode.INVALID_FAB, "")


def test_a_result_passes_as_it_is(program: SimpleNamespace, order: Message) -> None:
    Guard(program, []).take_over()
    reply = Message(RecordDict(), reply_to=order)
    program.push_message(None, reply, None)
    assert program.pushed == [reply]
