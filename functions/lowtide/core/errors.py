"""Every error that lowtide raises on purpose, in one tree.

LowtideError
├── Refused             the sender's fault: a task message that breaks a rule (code, field, remedy)
├── ConfigError         the deployer's fault: routes.toml or the environment, with the line or the name at fault
├── NotFound            an object that should be there is not
├── TooLarge            a message or an object beyond what its carrier takes
├── Unreachable         a network call that got no answer; whether it took effect is unknown
│   └── KeyUnreadable   a provider's key could not be had, so that nothing was sent
├── ProviderRefused     the provider answered, and the answer was no (status, code)
├── AccountRefused      the provider refuses the account: nothing was lost, and an operator has to act
└── Contended           a row that other writers kept changing; come back later
"""

from __future__ import annotations

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


def safely_told(error: BaseException) -> str:
    """For logs: our own errors say what happened without quoting a prompt, others may quote what they choked on."""
    return str(error) if isinstance(error, LowtideError) else type(error).__name__


class ConfigError(LowtideError):
    """routes.toml or the environment cannot be used as it is."""


class NotFound(LowtideError):
    """An object that should be there is not."""


class TooLarge(LowtideError):
    """Beyond what the carrier takes: 1 MiB for an SQS message, 400 KB for a DynamoDB item."""


class Unreachable(LowtideError):
    """The call got no answer: connection refused or reset, or a timeout. It may or may not have taken effect."""


class KeyUnreadable(Unreachable):
    """A provider's key could not be had, so the request never left. An operator has to act, as where the provider
    refuses the account; the text says why, and never holds a key."""


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
    """The provider refuses the account (key, quota, spend limit). What was to be sent waits."""


class Contended(LowtideError):
    """A row changed under every try to write it; nothing was written."""
