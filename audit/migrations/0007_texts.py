"""Canonical text and searched words of each entry; entries and the queue no longer lock the organization's row."""

import django.db.models.deletion
from django.db import migrations, models

from audit import triggers

ORGANIZATION = {
    "db_constraint": False,
    "db_index": False,
    "on_delete": django.db.models.deletion.CASCADE,
    "related_name": "+",
    "to": "accounts.organization",
}


def lift(apps, schema_editor):
    triggers.remove(schema_editor.connection)


def restore(apps, schema_editor):
    triggers.install(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_exports")]

    operations = [
        migrations.RunPython(lift, restore),
        migrations.AlterField("auditentry", "organization", models.ForeignKey(**ORGANIZATION)),
        migrations.AlterField("auditpending", "organization", models.ForeignKey(**ORGANIZATION)),
        migrations.AddField("auditentry", "canonical", models.TextField(default="")),
        migrations.AddField("auditentry", "words", models.TextField(default="")),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["organization", "verb", "-at", "-seq"], name="audit_entry_verb")
        ),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["organization", "actor_id", "-at", "-seq"], name="audit_entry_actor")
        ),
        migrations.AddIndex(
            "auditentry",
            models.Index(
                fields=["organization", "outcome", "-at", "-seq"],
                name="audit_entry_trouble",
                condition=models.Q(outcome__in=["failed", "denied"]),
            ),
        ),
        migrations.AddIndex(
            "auditentry",
            models.Index(
                fields=["operation_id"], name="audit_entry_operation", condition=models.Q(operation_id__isnull=False)
            ),
        ),
    ]
