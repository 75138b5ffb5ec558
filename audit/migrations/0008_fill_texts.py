"""Texts of the entries that are there, the index of the search, and the triggers back in place."""

from datetime import UTC

from django.db import migrations

from audit import chain, search, triggers

BATCH = 2000


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


def fill(apps, schema_editor):
    entries = apps.get_model("audit", "AuditEntry").objects
    waiting = []
    for entry in entries.iterator(chunk_size=BATCH):
        content = mapping(entry)
        entry.canonical, entry.words = chain.canonical(content).decode(), chain.words(content)
        waiting.append(entry)
        if len(waiting) == BATCH:
            entries.bulk_update(waiting, ["canonical", "words"], batch_size=200)
            waiting = []
    entries.bulk_update(waiting, ["canonical", "words"], batch_size=200)


def install(apps, schema_editor):
    search.install(schema_editor.connection)
    triggers.install(schema_editor.connection)


def lift(apps, schema_editor):
    triggers.remove(schema_editor.connection)
    search.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_texts")]
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunPython(install, lift),
    ]
