"""A notes API with pydantic models: list, add, read, change and remove, at /api/notes.

The notes are kept in memory. The same store is behind the routes and behind the tools notes.find and notes.add.
"""

from itertools import count

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field

from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class Draft(BaseModel):
    """A note as it comes in."""

    title: str = Field(min_length=1, max_length=200)
    text: str = ""
    tags: list[str] = []


class Note(Draft):
    """A note as it is kept."""

    id: int


class Notes:
    """The notes, by id."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}
        self._ids = count(1)

    def find(self, words: str = "") -> list[Note]:
        """Find the notes whose title or text contains the words; all of them without words."""
        words = words.lower()
        return [note for note in self._notes.values() if words in f"{note.title}\n{note.text}".lower()]

    def add(self, note: Draft) -> Note:
        """Keep a note and return it with its id."""
        kept = Note(id=next(self._ids), **note.model_dump())
        self._notes[kept.id] = kept
        return kept

    def get(self, id: int) -> Note:
        """Return a note, or raise a 404."""
        if id not in self._notes:
            raise HTTPException(404, f"there is no note {id}")
        return self._notes[id]

    def replace(self, id: int, note: Draft) -> Note:
        """Put a note in the place of another."""
        self._notes[self.get(id).id] = kept = Note(id=id, **note.model_dump())
        return kept

    def remove(self, id: int) -> None:
        """Throw a note away."""
        del self._notes[self.get(id).id]


def routes(notes: Notes) -> APIRouter:
    """The routes of a store of notes."""
    router = APIRouter()

    @router.get("")
    async def find(words: str = "") -> list[Note]:
        return notes.find(words)

    @router.post("", status_code=201)
    async def add(note: Draft, response: Response) -> Note:
        kept = notes.add(note)
        response.headers["location"] = f"/api/notes/{kept.id}"
        return kept

    @router.get("/{id}")
    async def read(id: int) -> Note:
        return notes.get(id)

    @router.put("/{id}")
    async def replace(id: int, note: Draft) -> Note:
        return notes.replace(id, note)

    @router.delete("/{id}", status_code=204)
    async def remove(id: int) -> None:
        notes.remove(id)

    return router


class NotesPlugin(BackendPlugin):
    manifest = PluginManifest(id="notes", name="Notes", version="1.0.0", description="Notes, kept in memory.")

    def setup(self, host: PluginHost) -> None:
        notes = Notes()
        host.add_router(routes(notes), prefix="notes")
        host.add_agent_tool(AgentTool.from_function(notes.find, name="notes.find"))
        host.add_agent_tool(AgentTool.from_function(notes.add, name="notes.add", side_effect=True))


PLUGIN = NotesPlugin
