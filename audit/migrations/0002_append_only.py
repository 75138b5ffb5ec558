"""The index of the text search, and the triggers that make the log append-only and queue each entry for its seal."""

from django.db import migrations

from audit import search, triggers


def install(apps, schema_editor):
    search.install(schema_editor.connection)
    triggers.install(schema_editor.connection)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection)
    search.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(install, remove)]
