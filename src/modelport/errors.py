"""Every error a user of Modelport can meet, and the exit code and HTTP status of each.

    ModelportError
      + UsageError          a flag, option or recipe that makes no sense      exit 2   HTTP 400
      + BundleError         the bundle is damaged, tampered with or unknown   exit 3   HTTP 500
      + InputError          what was sent cannot be used                      exit 3   HTTP 400
        - TooLarge          … because it is over a stated limit               exit 3   HTTP 413
        - UnsupportedMedia  … because nothing here decodes it                 exit 3   HTTP 415
        - NotAcceptable     … because nothing here answers in that form       exit 3   HTTP 406
      + NotFound            no such model, version or file                    exit 3   HTTP 404
      + Unsupported         nothing installed here can do this                exit 4   HTTP 501
      + Unauthorized        no key, or one that is not known here             exit 3   HTTP 401
      + Forbidden           a key, a host or an origin that may not do this   exit 3   HTTP 403
      + Unavailable         not now: stopping, or the queue is full           exit 4   HTTP 503
        - QueueFull         … because it could not be answered in time        exit 4   HTTP 503
        - DeadlineExceeded  … because its time is over                        exit 4   HTTP 504
        - RateLimited       … because this caller asked too often             exit 4   HTTP 429
      + ModelFailed         the network itself raised                         exit 3   HTTP 500
      + ParityFailed        a conversion that is not the same model           exit 1   HTTP 500

A message says what was expected and what came; `at` is a JSON path or a place in a file; `hint` says
what to do next. Transports translate by the class attributes below and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable


class ModelportError(Exception):
    """Base of every error that is the user's to see; anything else is a bug in Modelport."""

    exit_code = 3
    http_status = 500

    def __init__(self, message: str, *, at: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint

    def __str__(self) -> str:
        text = self.message
        if self.at:
            text += f" at `{self.at}`"
        if self.hint:
            text += f" — hint: {self.hint}"
        return text


class UsageError(ModelportError):
    """A flag, option or recipe that makes no sense."""

    exit_code = 2
    http_status = 400


class BundleError(ModelportError):
    """The bundle is damaged, tampered with, or of a kind this version does not know."""

    exit_code = 3
    http_status = 500


class InputError(ModelportError):
    """What was sent to the model cannot be used."""

    exit_code = 3
    http_status = 400


class TooLarge(InputError):
    """The input is over a stated limit (bytes, pixels, rows)."""

    http_status = 413


class UnsupportedMedia(InputError):
    """Nothing here decodes these bytes."""

    http_status = 415


class NotAcceptable(InputError):
    """Nothing here answers in a form that the caller accepts."""

    http_status = 406


class NotFound(ModelportError):
    """No such model, version or file."""

    exit_code = 3
    http_status = 404


class Unsupported(ModelportError):
    """Nothing installed here can do this; the hint holds the command that installs it."""

    exit_code = 4
    http_status = 501


class Unauthorized(ModelportError):
    """No key, or one not known here; `challenge` is the reply's WWW-Authenticate (RFC 9110, 11.6.1)."""

    exit_code = 3
    http_status = 401
    challenge = 'Bearer realm="modelport"'


class Forbidden(ModelportError):
    """Known, and not allowed: a key without the scope or the model, a foreign Host or Origin."""

    exit_code = 3
    http_status = 403


class Unavailable(ModelportError):
    """Not now: the server is stopping or its queue is full. `retry_after` is in seconds."""

    exit_code = 4
    http_status = 503

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class QueueFull(Unavailable):
    """The request would not be answered before its deadline: refused at once, so that others are in time."""


class DeadlineExceeded(Unavailable):
    """The time that the caller gave is over."""

    http_status = 504


class RateLimited(Unavailable):
    """This caller asked more often than its limit; `retry_after` seconds from now it may again."""

    http_status = 429


class ModelFailed(ModelportError):
    """The network raised while it ran."""

    exit_code = 3
    http_status = 500


class ParityFailed(ModelportError):
    """The converted model is not the same model: the answer is no, and nothing was written."""

    exit_code = 1
    http_status = 500


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """A hint for a word that is not known: the nearest spelling, names that hold the word, or `otherwise`, or
    all that is known.
    """
    from difflib import get_close_matches

    names = list(known)
    holding = [name for name in names if len(word) > 3 and word.lower() in name.lower()][:3]
    near = get_close_matches(word, names, n=1, cutoff=0.8 if holding else 0.6) or holding
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return otherwise if otherwise is not None else f"known: {', '.join(names)}"
