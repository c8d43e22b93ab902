PLUGIN = {"id": "wrong"}
