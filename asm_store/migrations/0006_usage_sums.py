import asm_store.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("asm_store", "0005_admin_permissions"),
    ]

    operations = [
        migrations.CreateModel(
            name="UsageProgress",
            fields=[
                (
                    "name",
                    asm_store.fields.TextField(max_length=255, primary_key=True, serialize=False),
                ),
                ("until", asm_store.fields.TimestampField(null=True)),
            ],
            options={
                "db_table": "asm_usage_progress",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="UsageMark",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("begin", asm_store.fields.TimestampField()),
            ],
            options={
                "db_table": "asm_usage_marks",
                "default_permissions": (),
                "indexes": [models.Index(fields=["begin"], name="asm_usage_marks_begin")],
            },
        ),
        migrations.CreateModel(
            name="UsageSum",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("begin", asm_store.fields.TimestampField()),
                ("agent_id", asm_store.fields.TextField(max_length=255, null=True)),
                ("provider", asm_store.fields.TextField(max_length=255, null=True)),
                ("model", asm_store.fields.TextField(max_length=255, null=True)),
                ("is_stored", models.BooleanField()),
                ("session_count", asm_store.fields.CountField(default=0)),
                ("run_count", asm_store.fields.CountField(default=0)),
                ("error_count", asm_store.fields.CountField(default=0)),
                ("empty_runs", asm_store.fields.CountField(default=0)),
                ("unsplit_runs", asm_store.fields.CountField(default=0)),
                ("unsplit_tokens", models.FloatField(default=0.0)),
                ("input_tokens", models.FloatField(default=0.0)),
                ("output_tokens", models.FloatField(default=0.0)),
                ("total_tokens", models.FloatField(default=0.0)),
                ("cache_read_tokens", models.FloatField(default=0.0)),
                ("cache_creation_tokens", models.FloatField(default=0.0)),
                ("cost_usd", models.FloatField(null=True)),
            ],
            options={
                "db_table": "asm_usage_sums",
                "default_permissions": (),
                "indexes": [models.Index(fields=["begin"], name="asm_usage_sums_begin")],
            },
        ),
    ]
