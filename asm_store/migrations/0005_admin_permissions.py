from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("asm_store", "0004_event_payload_permission")]

    operations = [
        migrations.AlterModelOptions(
            "session",
            {
                "permissions": [
                    ("soft_delete_session", "Can soft-delete agent sessions"),
                    ("restore_session", "Can restore soft-deleted agent sessions"),
                    (
                        "pin_session",
                        "Can pin agent sessions, so that retention leaves them alone",
                    ),
                    ("export_session", "Can export agent sessions"),
                    ("hard_delete_session", "Can delete agent sessions for good"),
                    ("run_maintenance", "Can run maintenance of agent sessions"),
                ],
                "verbose_name": "agent session",
                "verbose_name_plural": "agent sessions",
            },
        ),
    ]
