"""Runs app.py as a plugin of Galley."""

from galley_sdk import Plugin, routes_from

from app import app

plugin = Plugin(id="fastapi-hello", version="1.0.0", name="FastAPI hello", app=app, routes=routes_from(app))

if __name__ == "__main__":
    plugin.serve()
