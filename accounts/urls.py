"""Pages of people and cloud accounts, and the few of allauth's that they need (its names are global)."""

from __future__ import annotations

from allauth.account import views as allauth
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from accounts.views import agents, cloud, invitations, leaving, people, portal, security, settings, sso, wizard

_CLOUD = "settings/cloud-integrations"
_ONE = f"{_CLOUD}/<uuid:account_id>"

_pages = [
    path("login", portal.login, name="login"),
    path("signup", portal.signup, name="signup"),
    path("logout", portal.logout, name="logout"),
    path("switch-organization", portal.switch_organization, name="switch-organization"),
    path("welcome", wizard.welcome, name="wizard"),
    path("welcome/method", wizard.method, name="wizard-method"),
    path("welcome/connect/<slug:provider>/<slug:method>", wizard.connect, name="wizard-connect"),
    path("welcome/sandbox", wizard.connect_sandbox, name="wizard-sandbox"),
    path("welcome/done/<uuid:account_id>", wizard.finished, name="wizard-done"),
    path("welcome/skip", wizard.skip, name="wizard-skip"),
    path("settings/", settings.settings, name="settings"),
    path("settings/profile", settings.profile, name="settings-profile"),
    path("settings/organization", settings.organization, name="settings-organization"),
    path("settings/appearance", settings.appearance, name="settings-appearance"),
    path(_CLOUD, cloud.cloud_accounts, name="cloud-accounts"),
    path(f"{_CLOUD}/connect", cloud.connect_choose, name="connect-choose"),
    path(f"{_CLOUD}/connect/sandbox", cloud.connect_sandbox, name="connect-sandbox"),
    path(f"{_CLOUD}/connect/<slug:provider>/<slug:method>", cloud.connect, name="connect"),
    path(_ONE, cloud.account, name="cloud-account"),
    path(f"{_ONE}/credentials", cloud.reconnect, name="cloud-account-reconnect"),
    path(f"{_ONE}/rename", cloud.rename, name="cloud-account-rename"),
    path(f"{_ONE}/resync", cloud.resync, name="cloud-account-resync"),
    path(f"{_ONE}/verify", cloud.verify, name="cloud-account-verify"),
    path(f"{_ONE}/disconnect", cloud.disconnect, name="cloud-account-disconnect"),
    path("settings/members", people.members, name="members"),
    path("settings/members/invite", invitations.invite, name="invite"),
    path(
        "settings/members/invitations/<uuid:invitation_id>/<slug:what>",
        invitations.invitation_change,
        name="invitation-change",
    ),
    path("invitations/<str:token>", invitations.invitation, name="invitation"),
    path("settings/members/<uuid:membership_id>/role", people.member_role, name="member-role"),
    path("settings/members/<uuid:membership_id>/remove", people.member_remove, name="member-remove"),
    path("settings/api-keys", people.api_keys, name="api-keys"),
    path("settings/api-keys/<uuid:key_id>/revoke", people.api_key_revoke, name="api-key-revoke"),
    path("account/sso/login", sso.login, name="sso-login"),
    path("account/sso/callback", sso.callback, name="sso-callback"),
    path("settings/security/sessions/<int:session_id>/end", security.session_end, name="session-end"),
    path("settings/my-data/delete-me", leaving.delete_me, name="delete-me"),
    path("settings/security/confirm", security.confirm_email, name="confirm-email"),
    path("settings/security/sso/unlink", sso.unlink, name="sso-unlink"),
    path("settings/agents", agents.agents, name="agents"),
    path("settings/agents/<uuid:token_id>/revoke", agents.agent_revoke, name="agent-revoke"),
    path("settings/organizations/new", settings.organization_new, name="organization-new"),
    path("settings/security", security.security, name="security"),
    path("install/aws-role/<str:token>.yaml", cloud.aws_role_template, name="aws-role-template"),
]

_allauth = [
    path("login/", RedirectView.as_view(pattern_name="accounts:login", query_string=True), name="account_login"),
    path("signup/", RedirectView.as_view(pattern_name="accounts:signup", query_string=True), name="account_signup"),
    path("logout/", portal.logout, name="account_logout"),
    path("inactive/", allauth.account_inactive, name="account_inactive"),
    path("reauthenticate/", allauth.reauthenticate, name="account_reauthenticate"),
    path("password/change/", security.password_change, name="account_change_password"),
    path("password/set/", allauth.password_set, name="account_set_password"),
    path("password/reset/", allauth.password_reset, name="account_reset_password"),
    path("password/reset/done/", allauth.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        allauth.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("password/reset/key/done/", allauth.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    path("confirm-email/", allauth.email_verification_sent, name="account_email_verification_sent"),
    re_path(r"^confirm-email/(?P<key>[-:\w]+)/$", allauth.confirm_email, name="account_confirm_email"),
    path("2fa/", RedirectView.as_view(pattern_name="accounts:security"), name="mfa_index"),
    path("2fa/", include("allauth.mfa.urls")),
    path("sessions/", security.sessions, name="usersessions_list"),
]

urlpatterns = [
    path("", include((_pages, "accounts"))),
    path("account/", include(_allauth)),
]
