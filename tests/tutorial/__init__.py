"""Routers and applications that cover the topics of FastAPI's tutorial, a topic a file.

Each file has a ``router``, or an ``app`` where the topic needs one. ``STAYS`` names the routes that stay on ASGI, each
with a word of the reason; every other route of the file compiles. ``SAMPLES`` are bodies for a route, ``ASKS`` whole
requests; ``FAILS`` names the routes that have no answer below 400, ``UNSAID`` those that the OpenAPI document leaves
out.
"""
