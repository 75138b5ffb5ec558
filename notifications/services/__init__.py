"""Everything that tells people something, and everything that changes what they are told.

Others use `notify(...)`: it writes rows of the outbox in the caller's transaction and returns at once.
"""

from notifications.services.browsers import add_browser, remove_browser, test_browser
from notifications.services.channels import (
    add_channel,
    change_channel,
    remove_channel,
    retry_delivery,
    set_channel_enabled,
    test_channel,
)
from notifications.services.delivering import deliver_due, send_now
from notifications.services.notifying import mail_once, notify
from notifications.services.preferences import save_preference, stop, stop_token

__all__ = [
    "add_browser",
    "add_channel",
    "change_channel",
    "deliver_due",
    "mail_once",
    "notify",
    "remove_browser",
    "remove_channel",
    "retry_delivery",
    "save_preference",
    "send_now",
    "set_channel_enabled",
    "stop",
    "stop_token",
    "test_browser",
    "test_channel",
]
