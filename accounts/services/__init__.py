"""Every write of people, organizations, keys and cloud accounts.

Each function is keyword-only, names its actor (or, before anybody is signed in, the facts of the request), and writes
its audit line in its own transaction.
"""

from accounts.services.agents import create_enrolment_token, mint_agent_token, revoke_agent_token
from accounts.services.cloud_accounts import (
    blast_radius,
    disconnect_account,
    disconnect_effects,
    mark_scan_failed,
    mark_scanned,
    mark_scanning,
    rename_account,
    resync_account,
    verify_account,
)
from accounts.services.connecting import connect_account, connect_sandbox, reconnect
from accounts.services.denials import record_denied
from accounts.services.invitations import (
    accept_as_new,
    accept_invitation,
    invite,
    open_invitation,
    resend_invitation,
    revoke_invitation,
)
from accounts.services.keys import create_api_key, revoke_api_key
from accounts.services.leaving import close_organization, delete_person
from accounts.services.members import change_role, remove_member
from accounts.services.profile import close_wizard, set_appearance, update_organization, update_profile
from accounts.services.roles import RoleSetup, prepare_role
from accounts.services.sessions import (
    TokenPair,
    end_session,
    issue_tokens,
    password_changed,
    record_mfa_change,
    record_sign_in,
    record_sign_in_failure,
    record_sign_out,
    revoke,
    rotate_refresh,
    switch_organization,
)
from accounts.services.signup import SignedUp, create_organization, sign_up
from accounts.services.sso import log_sso_failure, person_for_sso, unlink_sso

__all__ = [
    "RoleSetup",
    "SignedUp",
    "TokenPair",
    "accept_as_new",
    "accept_invitation",
    "blast_radius",
    "change_role",
    "close_organization",
    "close_wizard",
    "connect_account",
    "connect_sandbox",
    "create_api_key",
    "create_enrolment_token",
    "create_organization",
    "delete_person",
    "disconnect_account",
    "disconnect_effects",
    "end_session",
    "invite",
    "issue_tokens",
    "log_sso_failure",
    "mark_scan_failed",
    "mark_scanned",
    "mark_scanning",
    "mint_agent_token",
    "open_invitation",
    "password_changed",
    "person_for_sso",
    "prepare_role",
    "reconnect",
    "record_denied",
    "record_mfa_change",
    "record_sign_in",
    "record_sign_in_failure",
    "record_sign_out",
    "remove_member",
    "rename_account",
    "resend_invitation",
    "resync_account",
    "revoke",
    "revoke_agent_token",
    "revoke_api_key",
    "revoke_invitation",
    "rotate_refresh",
    "set_appearance",
    "sign_up",
    "switch_organization",
    "unlink_sso",
    "update_organization",
    "update_profile",
    "verify_account",
]
