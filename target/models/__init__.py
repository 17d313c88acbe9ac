"""What commands take and what the API answers, as types: the one source of validation, of the command line's options and help,
and of /openapi.json. Declared without pydantic, which is imported when the first document is checked (checking.py)."""
