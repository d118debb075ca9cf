"""Tracking sessions while the plan of a rollout changes."""

from __future__ import annotations

import asyncio
import shutil
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from modelport.rollout.change import rollback, set_plan
from modelport.rollout.plan import Canary, Plan, Shadow
from modelport.rollout.state import change

from ..boxes import pack_boxes
from ..colours import served
from .test_track import frame, said, ws


async def test_a_session_follows_its_rollout_back_and_no_shadow_fails_it(tmp_path: Path) -> None:
    repo = pack_boxes(tmp_path)
    later = tmp_path / "later"
    later.mkdir()
    shutil.copytree(pack_boxes(later, version="2") / "boxes" / "2", repo / "boxes" / "2")

    def plan(**parts: Any) -> None:
        new = Plan(model="boxes", stable="1", **parts)
        change(repo / "boxes", lambda state: set_plan(state, new, now=time.time(), by="api"))

    async def answering(*sockets: ClientConnection) -> list[str]:
        found = []
        for socket in sockets:
            await socket.send(frame(0))
            answer = await said(socket)
            assert answer["type"] == "tracks", answer
            found.append(answer["version"])
        return found

    plan(canary=Canary(version="2", weight=1.0))
    with served(repo, "--executors", "1", "--watch", "200ms") as (url, _):
        async with (
            httpx.AsyncClient(base_url=url) as http,
            connect(ws(url)) as one,
            connect(ws(url)) as other,
            asyncio.timeout(120),
        ):
            for socket in (one, other):
                assert (await said(socket))["version"] == "2"
            plan(canary=Canary(version="2", weight=0.5))
            seen = []
            for _ in range(60):
                seen.append(await answering(one, other))
                await asyncio.sleep(0.05)
            # A session has its place: when the plan changes it may move, and never to and fro.
            assert all(len(list(groupby(versions))) <= 2 for versions in zip(*seen, strict=True))
            change(repo / "boxes", lambda state: rollback(state, now=time.time(), by="policy"))
            while await answering(one, other) != ["1", "1"]:
                await asyncio.sleep(0.1)
            plan(shadow=Shadow(version="2"))
            while 'shadow_compared_total{model="boxes"' not in (await http.get("/metrics")).text:
                assert await answering(one, other) == ["1", "1"]
            shutil.rmtree(repo / "boxes" / "2")
            while '"2"' in (await http.post("/v2/repository/index")).text:
                assert await answering(one, other) == ["1", "1"]
            for _ in range(10):
                assert await answering(one, other) == ["1", "1"]
