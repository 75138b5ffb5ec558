"""API routes of people and cloud accounts. Each answers with and without a slash at the end."""

from __future__ import annotations

from django.urls import URLPattern, path
from rest_framework.views import APIView

from accounts.api import account_views as accounts
from accounts.api import auth_views as auth
from accounts.api import member_views as members


def both(route: str, view: type[APIView], name: str = "") -> list[URLPattern]:
    """The route, and the same with a slash; only the first is in the schema and has a name."""
    return [path(route, view.as_view(), name=name or None), path(f"{route}/", view.as_view(schema=None))]


urlpatterns: list[URLPattern] = [
    *both("auth/signup", auth.SignupView, "signup"),
    *both("auth/register", auth.SignupView),
    *both("auth/token", auth.TokenView, "token"),
    *both("auth/login", auth.TokenView),
    *both("auth/token/refresh", auth.RefreshView, "token-refresh"),
    *both("auth/logout", auth.LogoutView, "logout"),
    *both("auth/profile", auth.ProfileView, "profile"),
    *both("auth/me", auth.ProfileView),
    *both("members", members.MemberListView, "members"),
    *both("members/<uuid:membership_id>", members.MemberView, "member"),
    *both("invitations", members.InvitationListView, "invitations"),
    *both("invitations/<uuid:invitation_id>", members.InvitationView, "invitation"),
    *both("invitations/<uuid:invitation_id>/resend", members.InvitationResendView, "invitation-resend"),
    *both("client/accounts", accounts.AccountListView, "accounts"),
    *both("client/accounts/role-setup", accounts.RoleSetupView, "account-role-setup"),
    *both("client/accounts/connect", accounts.ConnectView, "account-connect"),
    *both("client/accounts/<uuid:account_id>", accounts.AccountView, "account"),
    *both("client/accounts/<uuid:account_id>/status", accounts.AccountStatusView, "account-status"),
    *both("client/accounts/<uuid:account_id>/verify", accounts.VerifyView, "account-verify"),
    *both("client/accounts/<uuid:account_id>/resync", accounts.ResyncView, "account-resync"),
]
