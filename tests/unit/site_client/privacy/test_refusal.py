"""What a site says of itself when it does not work: one word, and a line of its trail."""

import hashlib

import pytest

from wardround.shared import codec
from wardround.shared.connection import Connection
from wardround.shared.errors import AuditFailed, BudgetSpent, NotApproved, NotPermitted, WireError
from wardround.shared.identity import Role, read_credentials
from wardround.shared.messages import Refusal, RefusalReason
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind
from wardround.site_client import dial
from wardround.site_client.privacy.egress import release_refusal


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NotApproved, RefusalReason.NOT_APPROVED),
        (BudgetSpent, RefusalReason.BUDGET_SPENT),
        (NotPermitted, RefusalReason.POLICY),
        (AuditFailed, RefusalReason.AUDIT_FAILED),
    ],
)
def test_the_class_of_the_error_leaves_and_its_text_stays(tiny_plan, tmp_path, kind, reason):
    trail = Trail(tmp_path / "audit", holder="wardround://site/ada")
    data = release_refusal(trail, tiny_plan, "ada", kind("case 0815 of the Hague"))
    told = Refusal(site_id="ada", plan_digest=tiny_plan.digest(), reason=reason)
    assert codec.decode_refusal(data) == told
    assert b"0815" not in data
    line = trail.lines()[-1]
    assert (line.kind, line.facts["what"]) == (LineKind.RELEASED, "Refusal")
    assert line.facts["digest"] == hashlib.sha256(data).hexdigest()
    assert line.facts["size_bytes"] == len(data)


@pytest.mark.parametrize("damaged", [b"", b"\x0a\x03ada", b"\x0a\x03ada\x18\x09"])
def test_a_refusal_without_a_known_reason_is_refused(damaged):
    with pytest.raises(WireError):
        codec.decode_refusal(damaged)


def test_a_site_that_refuses_waits_for_no_coordinator(tmp_path, monkeypatch):
    from wardround.deploy.throwaway import ThrowawayAuthority

    monkeypatch.setattr(dial, "REFUSAL_S", 0.2)
    own = read_credentials(ThrowawayAuthority(tmp_path / "authority").issue(Role.SITE, "ada"))
    with Connection("127.0.0.1:9", own) as connection:
        assert not dial.tell_refusal(connection, b"refusal")
