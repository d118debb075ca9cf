"""What each route takes and answers, as tables that `openapi` reads: `"METHOD /path" -> operation`.

A table's words are the routes' own: a test holds them against the routes, and schemathesis against the
server. Tables hold data; msgspec types in them stand for their schemas.
"""
