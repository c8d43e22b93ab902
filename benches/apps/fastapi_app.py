"""The router as an application of its own, for uvicorn and granian."""

from fastapi import FastAPI

from apps.items import PREFIX, router

app = FastAPI()
app.include_router(router, prefix=PREFIX)
