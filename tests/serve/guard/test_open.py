"""A server that answers everybody, and still knows its keys."""

from __future__ import annotations

from pathlib import Path

import httpx

from ...administration import added_key
from ...colours import pack_colours, picture, served


def test_a_key_keeps_its_rate_where_none_is_needed(tmp_path: Path) -> None:
    key = added_key(tmp_path / "keys.json", "slow", "infer", rate="3/h")
    options = ("--keys", str(tmp_path / "keys.json"), "--open", "infer", "--executors", "1")
    with served(pack_colours(tmp_path), *options) as (url, _), httpx.Client(base_url=url, timeout=30) as http:

        def statuses(path: str, **headers: str) -> list[int]:
            return [http.post(path, content=picture("red"), headers=headers).status_code for _ in range(5)]

        assert statuses("/predict/colours") == [200] * 5
        assert statuses("/predict/colours", Authorization=f"Bearer {key}") == [200, 200, 200, 429, 429]
        assert statuses("/predict/colours", Authorization="Bearer made up") == [401] * 5
        assert http.get("/v2/models/colours", headers={"X-API-Key": "made up"}).status_code == 401
        assert http.get("/v2/models/colours", headers={"X-API-Key": key}).status_code == 429
        assert http.get("/v2/models/colours").status_code == 200
        assert http.get("/metrics").status_code == 401
