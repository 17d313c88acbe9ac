"""What commands take and what the API answers, as types: the one source of validation, of the command line's options and help,
and of /openapi.json. Declared with the standard library alone: what checks documents (checking.py) comes with the first one."""
