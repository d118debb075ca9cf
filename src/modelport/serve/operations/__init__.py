"""What each route takes and answers, as tables that `openapi` reads.

A table says by module of `serve` and by `"METHOD /path"`: one path may mean two things on two ports.

A table's words are the routes' own: a test holds them against the routes, and schemathesis against the
server. Tables hold data; msgspec types in them stand for their schemas.
"""
