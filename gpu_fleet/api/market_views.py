"""Reports of the market, savings and the wizard. Every figure was seen or is in the ledger; else `data` is `no_data`."""

from __future__ import annotations

import statistics
from decimal import Decimal
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers as drf
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import InvalidInput
from gpu_fleet import advice, wizard
from gpu_fleet.api.shapes import CURRENCY, money, offer_shape
from gpu_fleet.api.views import FleetView
from gpu_fleet.selectors import market, pages
from operations.api.shapes import moment

ANY = OpenApiTypes.OBJECT
TAGS = ["gpu market"]
NOTHING_SEEN = "No look at a market has been taken yet; connect a Vast.ai account."
RISKS = ((0.05, "low"), (0.2, "medium"))
HOURS_A_MONTH = 730
LLM_HEADROOM = 1.1


def _found(items: list[dict[str, Any]], why: str = NOTHING_SEEN, **more: Any) -> Response:
    if not items:
        return Response({**market.no_data(why), **more})
    return Response({"data": "seen", "currency": CURRENCY, "items": items, **more})


def _quote(quote: market.Quote) -> dict[str, Any]:
    return {
        "gpu_name": quote.gpu_name,
        "spot_price": money(quote.spot_price),
        "ondemand_price": money(quote.ondemand_price),
        "savings_percent": quote.savings_percent,
        "available_gpus": quote.available_gpus,
        "total_offers": quote.total_offers,
        "price_trend": quote.price_trend,
        "min_price": money(quote.min_price),
        "vram_gb": quote.vram_gb,
        "last_update": moment(quote.last_update),
    }


def _number(request: Request, name: str, default: float, low: float, high: float) -> float:
    text = request.query_params.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        raise InvalidInput(errors={name: ["A number."]}) from None
    if not low <= value <= high:
        raise InvalidInput(errors={name: [f"Between {low:g} and {high:g}."]})
    return value


class MonitorView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """What was on offer at the last look."""
        return _found([_quote(quote) for quote in market.monitor(actor=self.actor)])


class SpotSavingsView(FleetView):
    @extend_schema(responses=ANY, parameters=[OpenApiParameter("hours_per_day", float)], tags=TAGS)
    def get(self, request: Request) -> Response:
        """What interruptible instead of on demand would save a month: only for GPUs seen at both prices. Potential."""
        hours = _number(request, "hours_per_day", 8, 0, 24)
        both = [
            q for q in market.monitor(actor=self.actor) if q.spot_price is not None and q.ondemand_price is not None
        ]
        items = [
            {
                **_quote(q),
                "kind": "potential",
                "monthly_savings": money((q.ondemand_price - q.spot_price) * Decimal(str(hours)) * 30),
            }
            for q in both
            if q.ondemand_price is not None and q.spot_price is not None
        ]
        return _found(items, "No GPU was seen at both prices.", hours_per_day=hours)


class InterruptionView(FleetView):
    @extend_schema(
        responses=ANY,
        parameters=[
            OpenApiParameter("geolocation", str),
            OpenApiParameter("max_rate", float),
            OpenApiParameter("limit", int),
        ],
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        """How often rentals failed at each host, from our own rentals there. Hosts where nobody rented have no rate."""
        place, most = request.query_params.get("geolocation", "").lower(), _number(request, "max_rate", 1, 0, 1)
        limit = int(_number(request, "limit", 50, 1, 200))
        ours = market.our_rentals(actor=self.actor)
        items = []
        for host in market.hosts(actor=self.actor):
            total, bad = ours.get(host.host_id, (0, 0))
            if not total or bad / total > most or place not in host.location.lower():
                continue
            items.append(
                {
                    "machine_id": host.host_id,
                    "geolocation": host.location or None,
                    "interruption_rate": round(bad / total, 3),
                    "total_rentals": total,
                    "successful_completions": total - bad,
                    "reliability_score": host.reliability,
                    "risk_level": next((word for limit_, word in RISKS if bad / total <= limit_), "high"),
                }
            )
        return _found(items[:limit], "Nothing was rented at a host of the market yet.")


class SafeWindowsView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request, gpu: str) -> Response:
        """Hours of the week with what was seen in them, cheapest first."""
        items = [
            {
                "hour_utc": w.hour_utc,
                "day_of_week": w.day_of_week,
                "avg_spot_price": w.avg_spot_price,
                "availability_score": w.availability_score,
                "avg_interruption_rate": None,
                "looks": w.looks,
            }
            for w in market.safe_windows(actor=self.actor, gpu_name=gpu)
        ]
        return _found(items, f"No hour of the week was looked at twice for {gpu}.", gpu_name=gpu)


class LlmGpusView(FleetView):
    @extend_schema(
        responses=ANY,
        parameters=[
            OpenApiParameter("min_vram", float),
            OpenApiParameter("max_price", float),
            OpenApiParameter("model_size", str),
        ],
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        """GPUs on offer with enough memory, best price for each GB first. `model_size` ("70b") is reckoned in fp16."""
        size = wizard.size_of(request.query_params.get("model_size", ""))
        need = _number(request, "min_vram", 0, 0, 10_000)
        if size is not None:
            need = max(need, size * wizard.BYTES["fp16"] * LLM_HEADROOM)
        most = _number(request, "max_price", 1000, 0, 1000)
        items = []
        for q in market.monitor(actor=self.actor):
            price = q.ondemand_price or q.spot_price
            if q.vram_gb and price and q.vram_gb >= need and price <= Decimal(str(most)):
                items.append({**_quote(q), "price_per_gb": round(float(price) / q.vram_gb, 5)})
        items.sort(key=lambda item: item["price_per_gb"])
        return _found(items, "No GPU that was seen has that much memory at that price.", min_vram_gb=round(need, 1))


class PredictionView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request, gpu: str) -> Response:
        """The price at this hour of the week as it was seen before, beside today's. An average of the past, no more."""
        rows = market.price_history(actor=self.actor, gpu_name=gpu)
        if not rows:
            return Response({**market.no_data(f"{gpu} was not seen."), "gpu_name": gpu})
        newest = rows[-1]
        same = [
            float(r.median) for r in rows[:-1] if (r.at.weekday(), r.at.hour) == (newest.at.weekday(), newest.at.hour)
        ]
        return Response(
            {
                "data": "seen",
                "gpu_name": gpu,
                "currency": CURRENCY,
                "current_price": money(newest.median),
                "same_hour_before": round(statistics.mean(same), 4) if same else None,
                "basis": f"mean of {len(same)} earlier looks at this hour of the week",
                "trend": market.trend(rows),
                "looks": len(rows),
            }
        )


class AvailabilityView(FleetView):
    @extend_schema(responses=ANY, parameters=[OpenApiParameter("min_available", int)], tags=TAGS)
    def get(self, request: Request) -> Response:
        """How many GPUs were on offer at the last look."""
        least = _number(request, "min_available", 1, 0, 1_000_000)
        quotes = [q for q in market.monitor(actor=self.actor) if q.available_gpus >= least]
        return _found([_quote(q) for q in sorted(quotes, key=lambda q: -q.available_gpus)])


class ReliabilityView(FleetView):
    @extend_schema(responses=ANY, parameters=[OpenApiParameter("min_score", float)], tags=TAGS)
    def get(self, request: Request) -> Response:
        """What the market says of each host, how often it was there when we looked, and our own experience."""
        least = _number(request, "min_score", 0, 0, 1)
        ours = market.our_rentals(actor=self.actor)
        items = []
        for host in market.hosts(actor=self.actor):
            if host.reliability is None or host.reliability < least:
                continue
            total, bad = ours.get(host.host_id, (0, 0))
            days = (host.last_seen - host.first_seen).total_seconds() / 86_400
            items.append(
                {
                    "machine_id": host.host_id,
                    "gpu_name": host.gpu_name,
                    "geolocation": host.location or None,
                    "overall_score": host.reliability,
                    "uptime_score": host.reliability,
                    "offered_share": round(host.seen / host.looks, 3) if host.looks else None,
                    "our_success_rate": round((total - bad) / total, 3) if total else None,
                    "history_days": round(days, 1),
                }
            )
        return _found(items)


class TrainingCostView(FleetView):
    @extend_schema(responses=ANY, parameters=[OpenApiParameter("gpu_hours", float)], tags=TAGS)
    def get(self, request: Request) -> Response:
        """What so many GPU hours cost at the prices last seen. Potential."""
        hours = Decimal(str(_number(request, "gpu_hours", 100, 0, 1_000_000)))
        items = [
            {
                "gpu_name": q.gpu_name,
                "kind": "potential",
                "ondemand_cost": money(q.ondemand_price * hours) if q.ondemand_price is not None else None,
                "spot_cost": money(q.spot_price * hours) if q.spot_price is not None else None,
            }
            for q in market.monitor(actor=self.actor)
        ]
        return _found(items, gpu_hours=str(hours))


class FleetStrategyView(FleetView):
    @extend_schema(
        responses=ANY,
        parameters=[OpenApiParameter("budget_monthly", float), OpenApiParameter("min_gpus", int)],
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        """What a month's budget rents around the clock at the prices last seen, interruptible and on demand. Potential."""
        budget = Decimal(str(_number(request, "budget_monthly", 500, 0, 10_000_000)))
        least = int(_number(request, "min_gpus", 1, 1, 10_000))
        items: list[dict[str, Any]] = []
        for q in market.monitor(actor=self.actor):
            for name, price in (("interruptible", q.spot_price), ("on_demand", q.ondemand_price)):
                count = min(int(budget / (price * HOURS_A_MONTH)), q.available_gpus) if price else 0
                if price and count >= least:
                    cost = price * HOURS_A_MONTH * count
                    role = {"role": "primary", "gpu_name": q.gpu_name, "count": count}
                    items.append(
                        {
                            "strategy_name": f"{q.gpu_name}, {name.replace('_', ' ')}",
                            "kind": "potential",
                            "total_gpus": count,
                            "estimated_monthly_cost": money(cost.quantize(Decimal("0.01"))),
                            "gpus": [role],
                        }
                    )
        items.sort(key=lambda item: -item["total_gpus"])
        return _found(items, "No GPU that was seen fits the budget.", budget_monthly=str(budget))


class SavingsView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Real savings of the last thirty days, from the ledger."""
        found = pages.get_savings(actor=self.actor)
        return Response(
            {
                "kind": "real",
                "currency": CURRENCY,
                "saved": money(found.saved),
                "spent": money(found.spent),
                "lost_races": money(found.lost_races),
                "sleeps": found.sleeps,
                "unpriced_intervals": found.unpriced,
                "by_machine": [
                    {"machine": name, "spent": money(spent), "saved": money(saved)}
                    for name, spent, saved in found.by_machine
                ],
            }
        )


class SavingsHistoryView(FleetView):
    @extend_schema(responses=ANY, parameters=[OpenApiParameter("days", int)], tags=TAGS)
    def get(self, request: Request) -> Response:
        """Spent and saved by day of the organization's time zone."""
        days = int(_number(request, "days", 30, 1, 366))
        found = pages.get_savings(actor=self.actor, days=days)
        items = [
            {"date": day.isoformat(), "spent": money(spent), "saved": money(saved)} for day, spent, saved in found.days
        ]
        return Response({"kind": "real", "currency": CURRENCY, "items": items})


class MetricsView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """The fleet at a glance."""
        found = pages.get_fleet(actor=self.actor)
        return Response(
            {
                "machines": sum(found.states.values()),
                "by_status": found.states,
                "awake": found.awake,
                "hourly_cost": money(found.burn),
                "unpriced": found.unpriced,
                "currency": CURRENCY,
                "saved_30_days": money(found.saved),
                "spent_30_days": money(found.spent),
            }
        )


class HibernationEventsView(FleetView):
    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Every hibernation and wake, newest first, at most two hundred."""
        items = [
            {
                "id": str(o.id),
                "machine_id": str(o.resource_id),
                "machine": o.resource_label,
                "event": o.kind.partition(".")[2],
                "status": o.status,
                "reason": o.reason or None,
                "at": moment(o.finished_at or o.created_at),
                "error": o.error or None,
            }
            for o in pages.hibernation_events(actor=self.actor)
        ]
        return Response({"count": len(items), "results": items})


class AskSerializer(drf.Serializer):
    goal = drf.ChoiceField(choices=[g.value for g in wizard.Goal], default="inference")
    model = drf.CharField(required=False, allow_blank=True, max_length=120)
    parameters_b = drf.FloatField(required=False, min_value=0.01, max_value=5000)
    precision = drf.ChoiceField(choices=sorted(wizard.BYTES), default="fp16")
    context = drf.IntegerField(default=4096, min_value=1, max_value=10_000_000)  # type: ignore[assignment]  # hides a property
    batch = drf.IntegerField(default=1, min_value=1, max_value=100_000)
    vram_gb = drf.FloatField(required=False, min_value=0.1, max_value=100_000)
    budget_hour = drf.DecimalField(required=False, allow_null=True, max_digits=10, decimal_places=4, min_value=0)


class WizardView(FleetView):
    @extend_schema(request=AskSerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request) -> Response:
        """Three sizes with the arithmetic that leads to them, each with the cheapest live offer that has it."""
        found = advice.advise(actor=self.actor, told=self.read(AskSerializer))
        return Response(
            {
                "goal": found.goal,
                "vram_gb": round(found.total, 2),
                "arithmetic": [{"what": s.what, "how": s.how, "gb": round(s.gb, 3)} for s in found.lines],
                "tiers": {
                    tier.name: {
                        "vram_gb": tier.vram_gb,
                        "why": tier.why,
                        "offer": offer_shape(tier.offer) if tier.offer else None,
                    }
                    for tier in found.tiers
                },
                "offers_seen": found.seen,
                "problems": found.problems,
            }
        )
