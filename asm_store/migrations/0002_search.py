from typing import Any

from django.db import migrations


def index_tags(apps: Any, schema_editor: Any) -> None:
    """Only PostgreSQL can: elsewhere a search by tags walks the index of its order."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "CREATE INDEX asm_sessions_tags ON asm_sessions USING gin (tags jsonb_path_ops)"
        )


def forget_tags(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX asm_sessions_tags")


class Migration(migrations.Migration):
    dependencies = [("asm_store", "0001_initial")]

    operations = [migrations.RunPython(index_tags, forget_tags)]
