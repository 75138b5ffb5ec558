"""Entries that were chained in their own row get a digest and a seal; the order of the lines stays."""

from datetime import UTC

from django.db import migrations

from audit import chain


def mapping(entry):
    return {
        **{
            name: getattr(entry, name)
            for name in chain.FIELDS
            if name not in {"id", "organization", "at", "operation_id"}
        },
        "id": str(entry.id),
        "organization": str(entry.organization_id),
        "at": entry.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "operation_id": str(entry.operation_id) if entry.operation_id else None,
    }


def seal(apps, schema_editor):
    entries, seals, heads = (apps.get_model("audit", name).objects for name in ("AuditEntry", "AuditSeal", "AuditHead"))
    for head in heads.all():
        line, last, made = 0, chain.GENESIS, []
        for entry in entries.filter(organization_id=head.organization_id).order_by("seq").iterator(chunk_size=2000):
            digest = chain.digest(mapping(entry))
            entries.filter(id=entry.id).update(digest=digest)
            line, previous, last = line + 1, last, chain.link(str(head.organization_id), line + 1, last, digest)
            made.append(
                seals.model(
                    organization_id=head.organization_id, entry_id=entry.id, line=line, prev_hash=previous, hash=last
                )
            )
        seals.bulk_create(made, batch_size=1000)
        heads.filter(organization_id=head.organization_id).update(seq=line, hash=last)


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_seals")]
    operations = [migrations.RunPython(seal)]
