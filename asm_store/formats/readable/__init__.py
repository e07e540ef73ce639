"""A session's events as a person reads them: on the admin's page, and in a file to pass on."""
