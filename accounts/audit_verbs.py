"""Audit verbs of people and cloud accounts."""

from audit import verbs

verbs.register(
    organization__created="Created the organization {target}",
    organization__switched="Switched to {target}",
    organization__closed="Closed the organization {target}",
    user__deleted="Deleted their account {target}",
    user__data_fetched="Fetched their personal data",
    organization__changed="Changed the organization {target}",
    user__renamed="Changed their name",
    user__profile_changed="Changed their profile",
    user__appearance_changed="Changed their appearance",
    user__signed_in="Signed in",
    user__sign_in_failed="Failed to sign in as {target}",
    user__signed_out="Signed out",
    user__password_changed="Changed their password",  # noqa: S106 - a sentence
    mfa__changed="Changed their second factor",
    member__invited="Invited {target}",
    invitation__sent_again="Invited {target} once more",
    invitation__revoked="Took back the invitation of {target}",
    member__joined="{target} joined",
    member__role_changed="Changed the role of {target}",
    member__removed="Removed {target}",
    api_key__created="Created the API key {target}",
    api_key__revoked="Revoked the API key {target}",
    agent_token__created="Created the agent token {target}",  # noqa: S106 - a sentence
    agent_token__revoked="Revoked the agent token {target}",  # noqa: S106 - a sentence
    cloud_account__connected="Connected the cloud account {target}",
    cloud_account__connect_failed="Failed to connect the cloud account {target}",
    cloud_account__renamed="Renamed the cloud account {target}",
    cloud_account__resync_requested="Asked to scan {target}",
    cloud_account__verified="Checked the credentials of {target}",
    cloud_account__scan_started="Started scanning {target}",
    cloud_account__scanned="Scanned {target}",
    cloud_account__scan_failed="The scan of {target} failed",
    cloud_account__disconnected="Disconnected the cloud account {target}",
    cloud_account__role_prepared="Prepared a role for {target}",
    access__denied="Was refused: {target}",
)
