"""Every error that Wardround raises on purpose, and the exit status each one ends the command with.

    WardroundError                1  anything below that has no status of its own
    |- UsageError                 2  the command's words are wrong
    |- PlanError                  3  the study plan is not valid
    |- DataError                  4  a data set, or one file of it, cannot be used
    |- CheckpointError            5  bytes that should be a checkpoint are not the one expected
    |- EgressRefused              6  something would have left the site that may not
    |- WireError                  7  a message cannot be decoded or breaks the wire contract
    |- JournalError               8  the study's journal cannot be read or does not fit the plan
    |- TrainingError              9  learning went wrong (a loss that is not finite, an empty batch)
    |- IdentityError             10  a certificate is missing, not valid, or of the wrong role
    |- ConnectionLost            11  the other end cannot be reached
    |- TrailError                12  an audit trail is broken or cannot be written
    |- NotPermitted              13  this site's staff or policy does not permit it
    '- AuditFailed               14  what was trained remembers cases, or nobody can tell

A message is a sentence with the facts (what, where, expected, got) and the remedy. It names files
and keys; it never holds tensor contents.
"""


class WardroundError(Exception):
    """Root of all errors that Wardround raises on purpose."""

    exit_status = 1


class UsageError(WardroundError):
    """The command's words are wrong."""

    exit_status = 2


class PlanError(WardroundError):
    """The study plan is not valid; the message names the key, the value and what is allowed."""

    exit_status = 3


class DataError(WardroundError):
    """A data set, or one file of it, cannot be used; the message names the file and the remedy."""

    exit_status = 4


class CheckpointError(WardroundError):
    """Bytes that should be a checkpoint are not the one that was expected."""

    exit_status = 5


class EgressRefused(WardroundError):
    """Something would have left the site that the manifest or the wire contract does not allow."""

    exit_status = 6


class WireError(WardroundError):
    """A message cannot be decoded or breaks the wire contract."""

    exit_status = 7


class StaleLease(WireError):
    """A message is about an order that its sender has no lease on, or no longer."""


class JournalError(WardroundError):
    """The study's journal cannot be read, or does not fit the plan it is resumed with."""

    exit_status = 8


class TrainingError(WardroundError):
    """Learning went wrong at a site."""

    exit_status = 9


class IdentityError(WardroundError):
    """A certificate is missing, expired, revoked, of another holder or of the wrong role."""

    exit_status = 10


class ConnectionLost(WardroundError):
    """The other end cannot be reached, or stopped answering; trying again may help."""

    exit_status = 11


class TrailError(WardroundError):
    """An audit trail is broken, or cannot be written; the message names the first bad line."""

    exit_status = 12


class NotPermitted(WardroundError):
    """This site's staff did not approve it, or the site's policy stands against it."""

    exit_status = 13


class NotApproved(NotPermitted):
    """The site's staff did not approve the plan, or no longer do."""


class BudgetSpent(NotPermitted):
    """It would exceed the site's privacy budget."""


class AuditFailed(WardroundError):
    """What was trained copies the site's cases, or too few cases are there to tell."""

    exit_status = 14
