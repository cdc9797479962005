"""The playground: static files, which `api/routes/playground.py` serves."""
