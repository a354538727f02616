"""The application as ``celery --app workers`` finds it (flower, ``inspect``): made from the environment."""

from shared.settings import Settings
from workers.app import create


app = create(Settings.read())
