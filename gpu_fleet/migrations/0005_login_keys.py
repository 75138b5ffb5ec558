from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gpu_fleet", "0004_agreed_snapshot"),
    ]

    operations = [
        migrations.AddField(
            model_name="fleetsettings",
            name="login_keys",
            field=models.TextField(blank=True),
        ),
    ]
