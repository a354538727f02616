"""Celery applications that are told everything by us: ``CELERY_...`` variables of another one change nothing.

Celery prefers ``CELERY_BROKER_URL``, ``CELERY_BROKER_READ_URL``, ``CELERY_BROKER_WRITE_URL`` and
``CELERY_RESULT_BACKEND`` to what an application sets (``celery/app/utils.py``), takes its loader from
``CELERY_LOADER``, and sets Django up where ``DJANGO_SETTINGS_MODULE`` is set (``celery/fixups/django.py``).
"""

from typing import Any

from celery import Celery
from celery.app.utils import Settings
from celery.loaders.app import AppLoader
from celery.utils.collections import DictAttribute


class OwnLoader(AppLoader):
    """Celery's, without the module that CELERY_CONFIG_MODULE names."""

    def read_configuration(self, env: str = "") -> DictAttribute:  # noqa: ARG002 - the signature is Celery's
        """Nothing."""
        return DictAttribute({})


class _OwnSettings(Settings):
    """Celery's, from what was set alone."""

    @property
    def broker_url(self) -> Any:
        """What was set."""
        return self.first("broker_url")

    @property
    def broker_read_url(self) -> Any:
        """The same broker."""
        return self.broker_url

    @property
    def broker_write_url(self) -> Any:
        """The same broker."""
        return self.broker_url

    @property
    def result_backend(self) -> Any:
        """None is set: results are rows."""
        return self.first("result_backend")


def own_application(name: str, **options: Any) -> Celery:
    """An application that is not the current one; ``options`` are Celery's."""
    made = Celery(name, loader=OwnLoader, fixups=[], set_as_current=False, **options)
    # Not a subclass of Celery, which it would treat otherwise; to its settings every attribute is one of them.
    object.__setattr__(made.conf, "__class__", _OwnSettings)
    return made
