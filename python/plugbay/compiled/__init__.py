"""The compile step: each route of a FastAPI router or app as a function that the core calls directly.

Only ``plugbay.fastapi`` imports it, and only when FastAPI is loaded. What FastAPI decides at each request is decided
here once; what is not understood keeps running through FastAPI's own ASGI app.
"""
