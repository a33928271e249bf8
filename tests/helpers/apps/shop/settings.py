"""A small Django project: sessions, users, and a page."""

import os

SECRET_KEY = "not a secret"  # noqa: S105 (every worker needs the same)
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["APP_DATABASE"],
        "OPTIONS": {"timeout": 60},
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "activity_tracker_hll.web.django.ActivityMiddleware",
]
ACTIVITY_TRACKER = {"writer": "writers.writer", "identify": "shop.activity.identify"}
