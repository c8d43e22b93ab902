"""The small answers and the body in Robyn; a program with the port, in an environment of its own.

Robyn validates nothing here: its handlers read what they need.
"""

import json
import sys

from robyn import Request, Robyn

HERE = "/api/plugins/bench"

app = Robyn(__file__)


def found(request: Request) -> dict[str, object]:
    """One item."""
    query = request.query_params
    limit = int(query.get("limit", "10"))
    number = int(request.path_params["number"])
    return {"id": number, "name": query.get("q", None), "limit": limit, "tags": ["home", "light"]}


@app.get(f"{HERE}/items/:number")
async def read(request: Request) -> dict[str, object]:
    """One item, from the event loop."""
    return found(request)


@app.get(f"{HERE}/items-sync/:number")
def read_sync(request: Request) -> dict[str, object]:
    """One item, from a thread."""
    return found(request)


@app.post(f"{HERE}/items")
async def write(request: Request) -> dict[str, object]:
    """The item that came, with its number."""
    item = json.loads(request.body)
    return {"id": 7, "name": item["name"], "price": float(item["price"]), "tags": item["tags"]}


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(sys.argv[1]), _check_port=False)
