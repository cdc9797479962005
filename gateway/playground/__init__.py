"""The playground: static files, served by `api/routes/playground.py`."""
