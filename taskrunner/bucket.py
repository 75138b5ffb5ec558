"""The bucket of logs as it is set up; None when logs stay in the database."""

from __future__ import annotations

from django.conf import settings

from taskrunner.providers.bucket import Bucket, Place


def bucket() -> Bucket | None:
    """Makes no call. Raises InvalidRequest for a setting that cannot be read."""
    if not settings.CURFEW_TASK_LOG_BUCKET:
        return None
    return Bucket(Place.read(settings.CURFEW_TASK_LOG_BUCKET, settings.CURFEW_TASK_LOG_BUCKET_KEY))
