"""The client of the service; the only package that imports httpx and looks at HTTP."""
