from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("policies", "0005_placement"),
    ]

    operations = [
        migrations.AddField(
            model_name="enforcement",
            name="staying",
            field=models.JSONField(default=list),
        ),
    ]
