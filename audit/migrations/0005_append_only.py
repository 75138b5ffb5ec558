"""The triggers that make the log append-only and queue each entry for its seal."""

from django.db import migrations

from audit import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_seal_what_is_there")]
    operations = [
        migrations.RemoveField("auditentry", "prev_hash"),
        migrations.RunPython(install, remove),
    ]
