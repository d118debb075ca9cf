"""Counts the requests that are answered with an error: where the answer is known, so that none is missed."""

from __future__ import annotations

from ..bundle.rules import NETWORK_SUFFIX
from ..engine.repository import Repository
from ..engine.told import Told
from ..errors import NotFound
from ..monitor.metrics import Metrics, ModelMetrics
from .exchange import Exchange
from .guard.scope import model_of
from .logs import is_probe
from .refusal import reason_of
from .short import named


class Refusals:
    """Counts each once, for the model that its path names if that is here.

    Args:
        repository: the models, and what was counted.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def replied(self, exchange: Exchange) -> None:
        """An error is the reply to an exchange that nobody has counted yet."""
        path = exchange.path.decode("latin-1")
        if is_probe(path):  # an orchestrator's question, answered
            return
        parameters = exchange.parameters
        if parameters is None:
            name, version = named(exchange.path)
        else:
            name = model_of(parameters.items())
            found = parameters.get("version", parameters.get("model_version"))
            version = found if isinstance(found, str) else None
        if name is not None and version is None and exchange.chosen and name in exchange.chosen:
            version = exchange.chosen[name][0]
        self.count(exchange.status, name, version, told=exchange.told)

    def count(
        self, status: int, name: str | None = None, version: str | None = None, *, told: Told | None = None
    ) -> None:
        """A request ended with an error, by its HTTP status.

        Args:
            name: the model, in the caller's words; None where there is none, or it was not read.
            version: the same; None for the one that the bare name means.
            told: how the model answered, where it has: it counted the request as answered, and what failed
                came after, which is not the model's.
        """
        reason = reason_of(status)
        if reason is not None:
            answered = told is not None and told.batch
            (self._repository.metrics if answered else self._of(name, version)).refused(reason)

    def _of(self, name: str | None, version: str | None) -> Metrics | ModelMetrics:
        repository = self._repository
        name = name.removesuffix(NETWORK_SUFFIX) if name else ""
        # Looked up before it is asked for: an error with its hints costs more than the answer did.
        if name in repository and (not version or version in repository.versions(name)):
            try:
                model = repository.entry(name, version or None).model
            except NotFound:
                model = None
            if model is not None:
                return model.metrics
        return repository.metrics
