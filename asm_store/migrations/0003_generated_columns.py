import django.db.models.expressions
from django.db import migrations, models

import asm_store.expressions
import asm_store.fields


def count(name: str) -> models.GeneratedField:
    return models.GeneratedField(
        db_persist=True,
        expression=asm_store.expressions.TokenCount("token_usage", name),
        output_field=models.FloatField(),
    )


class Migration(migrations.Migration):
    dependencies = [("asm_store", "0002_search")]

    operations = [
        migrations.AddField(
            "run",
            "model",
            models.GeneratedField(
                db_persist=True,
                expression=asm_store.expressions.JSONText("provider_metadata", "model"),
                output_field=asm_store.fields.TextField(max_length=255, null=True),
            ),
        ),
        migrations.AddField("run", "input_tokens", count("input_tokens")),
        migrations.AddField("run", "output_tokens", count("output_tokens")),
        migrations.AddField(
            "run",
            "total_tokens",
            models.GeneratedField(
                db_persist=True,
                expression=models.Case(
                    models.When(
                        asm_store.expressions.HasTokenCount("token_usage", "total_tokens"),
                        then=asm_store.expressions.TokenCount("token_usage", "total_tokens"),
                    ),
                    default=django.db.models.expressions.CombinedExpression(
                        asm_store.expressions.TokenCount("token_usage", "input_tokens"),
                        "+",
                        asm_store.expressions.TokenCount("token_usage", "output_tokens"),
                    ),
                ),
                output_field=models.FloatField(),
            ),
        ),
        migrations.AddField("run", "cache_read_tokens", count("cache_read_tokens")),
        migrations.AddField("run", "cache_creation_tokens", count("cache_creation_tokens")),
        migrations.AddIndex(
            "run", models.Index(fields=["total_tokens", "id"], name="asm_runs_tokens")
        ),
    ]
