"""The Add-cluster wizard: how, what, the agent's installation with its token shown once, and listening for it."""

from __future__ import annotations

import json
import shlex
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from clusters import selectors, services
from clusters.enums import Method
from clusters.forms import ClusterForm, KubeconfigForm
from clusters.inventory import install
from clusters.selectors.found import last_operation
from clusters.views import actor_of
from core.errors import Conflict, InvalidInput
from core.htmx import redirect, render_page

# What installing the agent takes; each line answers yes or no.
PREFLIGHT = "\n".join(
    f"kubectl auth can-i {what}"
    for what in (
        "create namespaces",
        "create clusterroles.rbac.authorization.k8s.io",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "create deployments.apps --namespace curfew",
        "create serviceaccounts --namespace curfew",
        "create secrets --namespace curfew",
    )
)
DESCRIBED = ("name", "environment", "region", "team", "owner")


@signed_in
@require_GET
def choose(request: HttpRequest) -> HttpResponse:
    """Step 1: how the cluster gets connected."""
    actor_of(request).require("clusters.manage", "connect clusters")
    return render_page(request, "clusters/connect.html", {"page_title": "Connect a cluster", "step": 1})


@signed_in
@require_http_methods(["GET", "POST"])
def agent(request: HttpRequest) -> HttpResponse:
    """Step 2: describe it; step 3: install the agent, with commands that hold the token. Shown this once."""
    actor_of(request).require("clusters.manage", "connect clusters")
    form = ClusterForm(request.POST or None, initial={"name": request.GET.get("name", "")})
    way = "terraform" if request.GET.get("way") == "terraform" else "agent"
    if request.method == "POST" and form.is_valid():
        made = _create(request, form, {name: form.cleaned_data[name] for name in DESCRIBED})
        if made is not None:
            return show_install(request, made, way)
    context = {"page_title": "Connect a cluster", "step": 2, "form": form, "way": way}
    return render_page(request, "clusters/describe.html", context, status=422 if form.errors else 200)


@signed_in
@require_http_methods(["GET", "POST"])
def kubeconfig(request: HttpRequest) -> HttpResponse:
    """Step 2 for clusters without an agent: upload a kubeconfig."""
    actor_of(request).require("clusters.manage", "connect clusters")
    form = KubeconfigForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        facts = {name: form.cleaned_data[name] for name in DESCRIBED}
        made = _create(request, form, {**facts, "kubeconfig_text": form.cleaned_data["kubeconfig"]})
        if made is not None:
            return redirect(request, reverse("clusters:waiting", args=[made.cluster.id]))
    context = {"page_title": "Connect a cluster", "step": 2, "form": form, "way": "kubeconfig"}
    return render_page(request, "clusters/describe.html", context, status=422 if form.errors else 200)


def show_install(request: HttpRequest, made: services.Connected, way: str) -> HttpResponse:
    """Step 3: the commands that install the agent, with its token."""
    context = {"page_title": "Install the agent", "step": 3, "cluster": made.cluster, "way": way, **commands(made)}
    return render_page(request, "clusters/install.html", context)


def _create(request: HttpRequest, form: ClusterForm, facts: dict[str, Any]) -> services.Connected | None:
    try:
        return services.create_cluster(actor=actor_of(request), **facts)
    except InvalidInput as refused:
        for field, words in refused.errors.items():
            form.add_error(field if field in form.fields else None, words)
    except Conflict as refused:
        form.add_error("name", refused.message)
    return None


def commands(made: services.Connected) -> dict[str, str]:
    """What to run: Helm, kubectl, Terraform. All hold the token."""
    base, chart, key = settings.CURFEW_BASE_URL, install.chart(), services.orders_key(made.cluster)
    name = json.dumps(made.cluster.name, ensure_ascii=False)  # HCL knows no surrogate pairs
    plain_http = base.startswith("http://")
    helm = [
        "helm upgrade --install curfew-agent curfew-agent",
        f"--repo {base}/charts --version {chart.version}",
        "--namespace curfew --create-namespace",
        f"--set url={base} --set token={made.token}",
        f"--set-string {shlex.quote('clusterName=' + made.cluster.name.replace(chr(92), chr(92) * 2).replace(',', chr(92) + ','))}",
        *(["--set allowHttp=true"] if plain_http else []),
    ]
    return {
        "preflight": PREFLIGHT,
        "helm": " \\\n  ".join(helm),
        "kubectl": f"kubectl apply -f {services.manifest_url(made.enrolment)}",
        "more_helm": f"--set orders.enabled=true --set webhook.enabled=true --set orders.publicKey={key}",
        "more_kubectl": f"kubectl apply -f '{services.manifest_url(made.enrolment)}?orders=1&webhook=1'",
        "terraform": terraform(base, chart.version, made.token, name, plain_http=plain_http),
    }


def terraform(base: str, version: str, token: str, name: str, *, plain_http: bool) -> str:
    """The agent as a Helm release of Terraform; `name` is a JSON text, which is an HCL text too."""
    name = name.replace("${", "$${").replace("%{", "%%{")
    values = [("url", json.dumps(base)), ("clusterName", name), *([("allowHttp", "true")] if plain_http else [])]
    values.append(("token", "var.curfew_token"))
    lines = "\n".join(f"    {key:<11} = {value}" for key, value in values)
    return (
        'variable "curfew_token" {\n  type      = string\n  sensitive = true\n}\n\n'
        'resource "helm_release" "curfew_agent" {\n'
        '  name             = "curfew-agent"\n'
        f'  repository       = "{base}/charts"\n'
        '  chart            = "curfew-agent"\n'
        f'  version          = "{version}"\n'
        '  namespace        = "curfew"\n'
        "  create_namespace = true\n"
        "  values = [yamlencode({\n"
        f"{lines}\n"
        "  })]\n}\n\n"
        f'# terraform apply -var "curfew_token={token}"\n'
    )


@signed_in
@require_POST
def reinstall(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """New commands with a new token, for an agent that was lost or whose address ran out."""
    return show_install(request, services.reinstall(actor=actor_of(request), cluster_id=cluster_id), "agent")


@signed_in
@require_GET
def waiting(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Step 4: listens for the first sign of life, and celebrates it."""
    cluster = selectors.get_cluster(actor=actor_of(request), cluster_id=cluster_id)
    heard = cluster.heard_at is not None
    check = None
    if cluster.method != Method.AGENT:
        check = last_operation(actor=actor_of(request), kind=services.PREFLIGHT, resource_id=cluster.id)
    context = {
        "page_title": "Waiting for the cluster",
        "step": 4,
        "cluster": cluster,
        "heard": heard,
        "check": check,
        "lost_rights": check.result.get("missing", []) if check else [],
    }
    return render_page(request, "clusters/waiting.html", context, fragment="sonar")
