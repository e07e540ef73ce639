import asm_store.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("asm_store", "0006_usage_sums"),
    ]

    operations = [
        migrations.CreateModel(
            name="SessionSum",
            fields=[
                (
                    "session_id",
                    asm_store.fields.IdField(max_length=255, primary_key=True, serialize=False),
                ),
                ("summed_at", asm_store.fields.TimestampField()),
                ("first_started_at", asm_store.fields.TimestampField()),
                ("last_started_at", asm_store.fields.TimestampField()),
                ("last_ended_at", asm_store.fields.TimestampField(null=True)),
                ("run_count", asm_store.fields.CountField(default=0)),
                ("error_count", asm_store.fields.CountField(default=0)),
                ("total_tokens", models.FloatField(default=0.0)),
                ("cost_usd", models.FloatField(null=True)),
                ("duration", models.DurationField(null=True)),
            ],
            options={
                "db_table": "asm_session_sums",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        fields=["-cost_usd", "session_id", "first_started_at", "last_started_at"],
                        name="asm_session_sums_cost",
                    ),
                    models.Index(
                        fields=["-duration", "session_id", "first_started_at", "last_started_at"],
                        name="asm_session_sums_duration",
                    ),
                    models.Index(fields=["first_started_at"], name="asm_session_sums_first"),
                ],
            },
        ),
    ]
