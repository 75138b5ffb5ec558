from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gpu_fleet", "0005_login_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="machine",
            name="clearing_until",
            field=models.DateTimeField(null=True),
        ),
    ]
