from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("asm_store", "0003_generated_columns")]

    operations = [
        migrations.AlterModelOptions(
            "event",
            {
                "permissions": [
                    ("view_event_payload", "Can view the data and metadata of agent events")
                ],
                "verbose_name": "agent event",
                "verbose_name_plural": "agent events",
            },
        ),
    ]
