"""Audit verbs of notifications."""

from audit import verbs

verbs.register(
    channel__added="Added the notification channel {target}",
    channel__changed="Changed the notification channel {target}",
    channel__removed="Removed the notification channel {target}",
    browser__added="Lets push messages reach {target}",
    browser__removed="Pushes nothing more to {target}",
    notification__retried="Sent the message {target} once more",
)
