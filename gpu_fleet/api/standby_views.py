"""Standbys over HTTP: the organization's rules, associations, and changes of sides."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import NotFound
from gpu_fleet import selectors, services
from gpu_fleet.api.agent_views import LARGEST_LEASE, MachineView, parsed
from gpu_fleet.api.serializers import WantedSerializer
from gpu_fleet.api.shapes import CURRENCY, money
from gpu_fleet.api.views import FleetView, OrderView
from gpu_fleet.selectors import standby as found
from operations.api.shapes import moment

ANY = OpenApiTypes.OBJECT
TAGS = ["gpu fleet"]


class StandbyRulesSerializer(serializers.Serializer):
    interval_seconds = serializers.FloatField(required=False)
    auto_failover = serializers.BooleanField(required=False)
    auto_return = serializers.BooleanField(required=False)
    grace_seconds = serializers.IntegerField(required=False)


class AssociationSerializer(StandbyRulesSerializer):
    machine_id = serializers.UUIDField()
    account_id = serializers.UUIDField(help_text="Where the CPU machine is rented: Docker, Google Cloud or AWS.")
    wanted = WantedSerializer(required=False)


class AssociationChangeSerializer(StandbyRulesSerializer):
    enabled = serializers.BooleanField(required=False)


def rules_shape(rules: Any) -> dict[str, Any]:
    """What new standbys begin with."""
    return {
        "interval_seconds": rules.standby_interval,
        "auto_failover": rules.standby_failover,
        "auto_return": rules.standby_return,
        "grace_seconds": rules.standby_grace,
    }


def association_shape(view: found.StandbyView) -> dict[str, Any]:
    """One machine and its standby. `rpo_seconds` is the age of the newest whole copy."""
    row = view.row
    spare = row.spare
    return {
        "id": str(row.id),
        "machine_id": str(row.machine_id),
        "machine": row.machine.name,
        "standby_machine_id": str(row.spare_id) if row.spare_id else None,
        "account_id": str(row.account_id),
        "enabled": row.enabled,
        "status": row.state,
        "message": row.error or view.word,
        "serving": row.holder or None,
        "epoch": row.epoch,
        "rpo_seconds": view.rpo_seconds,
        "copied_through": moment(row.pushed_through),
        "on_other_side_through": moment(row.pulled_through),
        "copy_seconds": row.push_seconds,
        "copy_error": row.push_error or row.pull_error or None,
        "conflicts": row.conflicts,
        "interval_seconds": row.interval_seconds,
        "auto_failover": row.auto_failover,
        "auto_return": row.auto_return,
        "grace_seconds": row.grace_seconds,
        "lost_at": moment(row.lost_at),
        "lost_why": row.lost_why or None,
        "last_seen": moment(row.last_seen),
        "switched_at": moment(row.switched_at),
        "ssh": {"host": spare.rental.ssh_host, "port": spare.rental.ssh_port, "user": "root"}
        if spare and spare.rental and spare.rental.ssh_port
        else None,
        "hourly_cost": money(view.hourly),
        "spent_30_days": money(view.spent),
        "currency": CURRENCY,
    }


def _one(view: FleetView, standby_id: UUID) -> dict[str, Any]:
    row = services.find_standby(actor=view.actor, standby_id=standby_id)
    (shown,) = found.list_standbys(actor=view.actor, machine_ids=[row.machine_id])
    return association_shape(shown)


class StandbyView(FleetView):
    @extend_schema(operation_id="standby_retrieve", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """The rules that new standbys begin with, and every association."""
        rules = selectors.get_settings(actor=self.actor)
        rows = found.list_standbys(actor=self.actor)
        return Response({**rules_shape(rules), "associations": [association_shape(row) for row in rows]})

    @extend_schema(operation_id="standby_update", request=StandbyRulesSerializer, responses=ANY, tags=TAGS)
    def put(self, request: Request) -> Response:
        """Change the rules; standbys that exist keep theirs."""
        self.actor.require("gpu.manage", "change the settings of the GPU fleet")
        given = self.read(StandbyRulesSerializer)
        names = {
            "interval_seconds": "standby_interval",
            "auto_failover": "standby_failover",
            "auto_return": "standby_return",
            "grace_seconds": "standby_grace",
        }
        rules = services.change_settings(actor=self.actor, **{names[k]: v for k, v in given.items()})
        return Response(rules_shape(rules))


class AssociationsView(FleetView):
    @extend_schema(operation_id="standby_associations_list", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Machines with a standby."""
        rows = [association_shape(row) for row in found.list_standbys(actor=self.actor)]
        return Response({"count": len(rows), "results": rows})

    @extend_schema(
        operation_id="standby_associations_create", request=AssociationSerializer, responses={201: ANY}, tags=TAGS
    )
    def post(self, request: Request) -> Response:
        """Give a machine a standby; it is rented as soon as the machine is awake."""
        self.actor.require("gpu.manage", "rent standbys")
        row = services.create_standby(actor=self.actor, **self.read(AssociationSerializer))
        return Response(_one(self, row.id), status=201)


class AssociationView(FleetView):
    @extend_schema(operation_id="standby_associations_retrieve", responses=ANY, tags=TAGS)
    def get(self, request: Request, standby_id: UUID) -> Response:
        """One association."""
        return Response(_one(self, standby_id))

    @extend_schema(
        operation_id="standby_associations_update", request=AssociationChangeSerializer, responses=ANY, tags=TAGS
    )
    def patch(self, request: Request, standby_id: UUID) -> Response:
        """Change what is given."""
        services.find_standby(actor=self.actor, standby_id=standby_id)
        self.actor.require("gpu.manage", "configure standbys")
        given = self.read(AssociationChangeSerializer)
        services.change_standby(actor=self.actor, standby_id=standby_id, **given)
        return Response(_one(self, standby_id))

    @extend_schema(operation_id="standby_associations_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, standby_id: UUID) -> Response:
        """Take the standby away; its machine is destroyed. Not while it serves."""
        services.remove_standby(actor=self.actor, standby_id=standby_id)
        return Response(status=204)


class StartSyncView(FleetView):
    enabled = True

    @extend_schema(request=None, responses=ANY, tags=TAGS)
    def post(self, request: Request, standby_id: UUID) -> Response:
        """Turn the standby on, or off: then what is rented for it is destroyed. It cannot be turned off while it serves."""
        services.change_standby(actor=self.actor, standby_id=standby_id, enabled=self.enabled)
        return Response(_one(self, standby_id))


class StopSyncView(StartSyncView):
    enabled = False


class FailoverView(OrderView):
    order = staticmethod(services.request_failover)


class FailbackView(OrderView):
    order = staticmethod(services.request_failback)


class LeaseView(MachineView):
    @extend_schema(request=ANY, responses=ANY, tags=["agents"])
    def post(self, request: Request) -> Response:
        """A machine with a standby, or a standby, asks whether it may serve: `{instance_id, epoch, serving}` is answered
        with `{standby, serve, epoch, ttl, renew}`."""
        told = parsed(self.body(request, LARGEST_LEASE))
        if self.token.resource_id is None:
            raise NotFound("This token belongs to no machine.")
        return Response(services.renew_lease(token=self.token, body=told))
