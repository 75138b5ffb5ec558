"""Settings, all from the environment: each variable is in docs/configuration.md and .env.example (a test compares).

`CURFEW_DATA` names the data folder; `<data>/curfew.env` holds generated keys, and the environment wins over it.
`NAME_FILE` may hold the path of a file with the value of any secret.
"""

from __future__ import annotations

import os
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

CURFEW_DATA = Path(env.str("CURFEW_DATA", default=str(BASE_DIR / ".data" / "main")))
if (CURFEW_DATA / "curfew.env").is_file():
    environ.Env.read_env(CURFEW_DATA / "curfew.env")


def secret(name: str, default: str | None = None) -> str:
    """A secret from NAME, or from the file that NAME_FILE points to."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set. `./curfew up` creates it; see docs/configuration.md.")
    return value


DEBUG = env.bool("CURFEW_DEBUG", default=False)
SECRET_KEY = secret("CURFEW_SECRET_KEY")
CURFEW_ENCRYPTION_KEYS = secret("CURFEW_ENCRYPTION_KEYS")
CURFEW_JWT_KEY = secret("CURFEW_JWT_KEY")
CURFEW_BASE_URL = env.str("CURFEW_BASE_URL", default="http://localhost:8000").rstrip("/")
CURFEW_HTTPS = CURFEW_BASE_URL.startswith("https://")
ALLOWED_HOSTS = env.list("CURFEW_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CURFEW_TRUSTED_ORIGINS", default=[CURFEW_BASE_URL])
CURFEW_TRUSTED_PROXIES = env.list("CURFEW_TRUSTED_PROXIES", default=[])
CURFEW_METRICS_TOKEN = secret("CURFEW_METRICS_TOKEN", "")
CURFEW_METRICS_NETWORKS = env.list("CURFEW_METRICS_NETWORKS", default=[])
CURFEW_SANDBOX_AWS_ENDPOINT = env.str("CURFEW_SANDBOX_AWS_ENDPOINT", default="")
CURFEW_DOCKER_HOST = env.str(
    "CURFEW_DOCKER_HOST", default=env.str("DOCKER_HOST", default="unix:///var/run/docker.sock")
)
CURFEW_PLATFORM_AWS_ACCOUNT = env.str("CURFEW_PLATFORM_AWS_ACCOUNT", default="")
CURFEW_AUDIT_SIGNING_KEYS = secret("CURFEW_AUDIT_SIGNING_KEYS", "")
CURFEW_AUDIT_ANCHORS = env.str("CURFEW_AUDIT_ANCHORS", default="")
CURFEW_VAPID_KEY = secret("CURFEW_VAPID_KEY", "")
CURFEW_AUDIT_ANCHOR_WEBHOOK = env.str("CURFEW_AUDIT_ANCHOR_WEBHOOK", default="")
CURFEW_AUDIT_ANCHOR_WEBHOOK_SECRET = secret("CURFEW_AUDIT_ANCHOR_WEBHOOK_SECRET", "")
CURFEW_AUDIT_ANCHOR_BUCKET = env.str("CURFEW_AUDIT_ANCHOR_BUCKET", default="")
CURFEW_AUDIT_ANCHOR_BUCKET_KEY = secret("CURFEW_AUDIT_ANCHOR_BUCKET_KEY", "")
CURFEW_TASK_LOG_BUCKET = env.str("CURFEW_TASK_LOG_BUCKET", default="")
CURFEW_TASK_LOG_BUCKET_KEY = secret("CURFEW_TASK_LOG_BUCKET_KEY", "")
CURFEW_OUTBOUND_NETWORKS = env.list("CURFEW_OUTBOUND_NETWORKS", default=[])
CURFEW_RCLONE_FOLDERS = env.list("CURFEW_RCLONE_FOLDERS", default=[])
CURFEW_ALLOW_SIGNUP = env.bool("CURFEW_ALLOW_SIGNUP", default=True)
CURFEW_AGENT_HEARTBEAT_SECONDS = min(60, max(1, env.int("CURFEW_AGENT_HEARTBEAT_SECONDS", default=15)))

DATABASE_URL = secret("DATABASE_URL", "")
REDIS_URL = secret("REDIS_URL", "")
CURFEW_EMBEDDED = not REDIS_URL

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "django_celery_beat",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "core",
    "audit",
    "accounts",
    "costs",
    "notifications",
    "operations",
    "cloudnodes",
    "gpu_fleet",
    "clusters",
    "taskrunner",
    "clusterjobs",
    "policies",
    "hibernation",
    "dashboard",
]

MIDDLEWARE = [
    "core.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SessionActivityMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.middleware.ActorMiddleware",
    "core.middleware.ErrorMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = None
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

if DATABASE_URL:
    DATABASES = {"default": env.db_url_config(DATABASE_URL)}
    DATABASES["default"].setdefault("CONN_MAX_AGE", 600)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": CURFEW_DATA / "curfew.sqlite3",
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000; PRAGMA foreign_keys=ON;",
            },
        }
    }

if CURFEW_EMBEDDED:
    CELERY_BROKER_URL = "memory://"
    CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.1}
    CHANNEL_LAYERS = {"default": {"BACKEND": "core.layer.ThreadSafeInMemoryChannelLayer", "CONFIG": {"capacity": 5000}}}
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 20_000}}
    }
else:
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
    CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    }
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
CELERY_TASK_TIME_LIMIT = 1800
CELERY_TASK_DEFAULT_QUEUE = "fast"
CELERY_TASK_ROUTES = {"operations.tick": {"queue": "sweep"}, "operations.sweep": {"queue": "sweep"}}
CURFEW_WEB_THREADS = env.int("CURFEW_WEB_THREADS", default=8)
CURFEW_WEB_PROCESSES = env.int("CURFEW_WEB_PROCESSES", default=1)
CELERY_WORKER_CONCURRENCY = env.int("CURFEW_WORKER_THREADS", default=8)

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.SessionBackend"]
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = env.str("CURFEW_EMAIL_VERIFICATION", default="optional")
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_NOTIFICATIONS = True  # a changed password or factor is told to the person by mail
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key", "login": "30/m/ip"}
CURFEW_OIDC_ISSUER = env.str("CURFEW_OIDC_ISSUER", default="")
CURFEW_OIDC_CLIENT_ID = env.str("CURFEW_OIDC_CLIENT_ID", default="")
CURFEW_OIDC_CLIENT_SECRET = secret("CURFEW_OIDC_CLIENT_SECRET", "")
CURFEW_OIDC_NAME = env.str("CURFEW_OIDC_NAME", default="Single sign-on")
CURFEW_OIDC_DOMAINS = env.list("CURFEW_OIDC_DOMAINS", default=[])
SOCIALACCOUNT_ADAPTER = "accounts.sso.SocialAccountAdapter"
MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Curfew"
USERSESSIONS_TRACK_ACTIVITY = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CURFEW_HTTPS
CSRF_COOKIE_SECURE = CURFEW_HTTPS
CSRF_COOKIE_HTTPONLY = False
SECURE_SSL_REDIRECT = CURFEW_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if CURFEW_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = CURFEW_HTTPS
SECURE_HSTS_PRELOAD = CURFEW_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if CURFEW_TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Where the view decides before a byte of the body is read, and passes it on (`core.later.Handover`).
CURFEW_UNREAD_BODIES = ["/api/agent/machine/repository/", "/api/v1/agent/machine/repository/"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024

_WS = CURFEW_BASE_URL.replace("http", "ws", 1)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "font-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'", _WS],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "manifest-src": ["'self'"],
    },
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = env.bool("CURFEW_STATIC_FROM_SOURCE", default=CURFEW_EMBEDDED)
WHITENOISE_MAX_AGE = 60
STATIC_ROOT = None if WHITENOISE_USE_FINDERS else BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
MEDIA_ROOT = CURFEW_DATA / "media"

EMAIL_CONFIG = env.email_url("CURFEW_EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("CURFEW_EMAIL_FROM", default="Curfew <curfew@localhost>")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.authentication.BearerAuthentication",
        "accounts.api.authentication.ApiKeyAuthentication",
        "accounts.api.authentication.AgentAuthentication",
        "accounts.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["core.api.permissions.SignedIn"],
    "DEFAULT_PAGINATION_CLASS": "core.api.pagination.Pages",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "core.api.errors.exception_handler",
    "DEFAULT_THROTTLE_RATES": {"login": "20/min", "signup": "20/hour", "connect": "60/hour"},
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Curfew",
    "DESCRIPTION": "Puts idle cloud compute to sleep, wakes it when somebody wants it, and shows what that saved.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/(budgetguard/)?api/(v1/)?",
    "ENUM_NAME_OVERRIDES": {
        "NodeProviderEnum": "cloudnodes.api.serializers.CHOICES",
        "RoleProviderEnum": ["aws"],
        "AccountStatusEnum": "accounts.enums.AccountStatus.choices",
        "OperationStatusEnum": "operations.enums.Status.choices",
        "RaceStrategyEnum": ["race", "cheapest", "reliable"],
        "AllocationStrategyEnum": ["lowest_price", "capacity_optimized"],
    },
    "PREPROCESSING_HOOKS": ["config.schema.only_canonical_paths"],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "core.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": env.str("CURFEW_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.db.backends": {"level": "WARNING"},
        "azure": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
    },
}

SILENCED_SYSTEM_CHECKS = (
    [] if CURFEW_HTTPS else ["security.W004", "security.W008", "security.W012", "security.W016", "security.W021"]
)
