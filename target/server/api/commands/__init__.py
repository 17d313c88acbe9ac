"""Every management command, by subject: `table.py` runs them; `objects.py`, `hosts.py`, `target.py` and `pool.py` are them."""
