"""Triggers that refuse to change or delete a line of the audit log: installed by 0005, when all tables exist."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = []
