"""Every error that lowtide raises on purpose, in one tree.

LowtideError
├── Refused             the sender's fault: a task message that breaks a rule (code, field, remedy)
├── ConfigError         the deployer's fault: routes.toml or the environment, with the line or the name at fault
├── NotFound            an object that should be there is not
├── TooLarge            a message or an object beyond what its carrier takes
├── Unreachable         a network call that got no answer; whether it took effect is unknown
│   ├── Unsendable      nothing was done, and nothing will be until an operator acts
│   │   ├── KeyUnreadable   a provider's key could not be had, so that nothing was sent
│   │   └── Redirected      the provider's address sends on to another
│   ├── KeyStoreAway    a provider's key cannot be had for the moment, so that nothing was sent
│   ├── BrokenOff       a download that began and did not come whole, however often it was tried
│   └── Garbled         a file that came whole and holds something else than it should
├── ProviderRefused     the provider answered, and the answer was no (status, code)
├── AccountRefused      the provider refuses the account: nothing was lost, and an operator has to act
├── Busy                a service that takes nothing for now: throttled, failing, or without an answer
├── NewerSchema         a row or a message that a newer release wrote: it is left to that release
├── Contended           a row that other writers kept changing; come back later
└── Unfinished          some items of a list were done, and some were not
"""

from __future__ import annotations

from collections.abc import Sequence

from .provider_errors import ProviderError


class LowtideError(Exception):
    """The root. Its text is one line that says what happened and what to do next."""


class Refused(LowtideError):
    """A task message that breaks a rule of the contract.

    ``code`` is stable (``invalid_task``, ``id_conflict``, …), ``field`` is a dotted path into the message or
    ``None`` where the message as a whole is at fault, ``task_id`` is the id where one could be read.
    """

    def __init__(self, code: str, message: str, *, field: str | None = None, task_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.task_id = task_id


class ConfigError(LowtideError):
    """routes.toml or the environment cannot be used as it is."""


class NotFound(LowtideError):
    """An object that should be there is not."""


class TooLarge(LowtideError):
    """Beyond what the carrier takes: 1 MiB for an SQS message, 400 KB for a DynamoDB item."""


class Unreachable(LowtideError):
    """The call got no answer: connection refused or reset, or a timeout. It may or may not have taken effect."""


class Unsendable(Unreachable):
    """The provider was not asked, and cannot be until an operator acts, as where it refuses the account. The text says
    why, and never holds a key."""


class KeyUnreadable(Unsendable):
    """A provider's key could not be had, so the request never left."""


class KeyStoreAway(Unreachable):
    """The place where a provider's key is kept does not answer, so the request never left. No operator has to act."""


class Redirected(Unsendable):
    """The provider's address answers with a redirect that is not followed: to another origin, or one that would lose a
    POST. Nothing was done."""


class BrokenOff(Unreachable):
    """A download that began and did not come whole, at any of several tries."""


class Garbled(Unreachable):
    """A file came whole, and holds something else than it should: as if nothing had come."""


class ProviderRefused(LowtideError):
    """The provider answered a batch call with an error status. ``message`` begins with the status and is for people.
    ``error`` is what the fault is judged by."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        error: ProviderError | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.error = error or ProviderError(status, code=code, message=message)
        self.retry_after_s = retry_after_s


class AccountRefused(LowtideError):
    """The provider refuses the account (key, quota, spend limit). What was to be sent waits.

    It leaves a function as its failure, which is logged: the text has the code, ``message`` the provider's words too.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the provider refuses the account ({code}); nothing is lost: mend that")
        self.code = code
        self.message = f"{code}: {message}"


class Busy(LowtideError):
    """A service did not take something now, and may take it in a moment. Some of it may have been taken."""


class NewerSchema(LowtideError):
    """A row or a message that a newer release wrote, and that this one must not touch."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(
            f"{what} was written by a newer release (schema {found}, this one reads {known}): it is left to that one"
        )


class Contended(LowtideError):
    """A row changed under every try to write it; nothing was written."""


class Unfinished(LowtideError):
    """Some items of a list were done, and some were not.

    ``outcomes`` has, in the order of the list, what each item came to, or the error that it met. So an item that fails
    need not fail its neighbours.
    """

    def __init__(self, outcomes: Sequence[object]) -> None:
        errors = [each for each in outcomes if isinstance(each, Exception)]
        super().__init__(
            f"{len(errors)} of {len(outcomes)} items were not done, the first for {safely_told(errors[0])}"
        )
        self.outcomes = outcomes


def safely_told(error: BaseException) -> str:
    """Say for a log what went wrong, without anything that may be a prompt.

    Our own errors quote none. A provider's own words do, and foreign errors quote what they choked on: a log has the
    status and the code of the first, the kind of the others.
    """
    match error:
        case ProviderRefused():
            return f"HTTP {error.status}" if error.code is None else f"HTTP {error.status} {error.code}"
        case LowtideError():
            return str(error)
        case _:
            return type(error).__name__
