"""A3: what changes the server is off, or takes a key of its own; no dialect has a back door to it."""

from __future__ import annotations

import httpx
import pytest

from .wire import Target

CHANGES = [
    # Open Inference Protocol, as Triton has it
    ("POST", "/v2/repository/models/colours/unload"),
    ("POST", "/v2/repository/models/colours/load"),
    ("POST", "/v2/repository/colours/models/colours/unload"),
    ("POST", "/v2/logging"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/models/colours/trace/setting"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("POST", "/v2/cudasharedmemory/region/x/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    # TorchServe
    ("POST", "/models?url=http://127.0.0.1:1/evil.mar"),
    ("POST", "/models?url=file:///etc/passwd&model_name=x"),
    ("PUT", "/models/colours?min_worker=0"),
    ("PUT", "/models/colours/1/set-default"),
    ("DELETE", "/models/colours"),
    ("DELETE", "/models/colours/1"),
    ("GET", "/token?type=management"),
    # TensorFlow Serving, MLServer, Ray, BentoML, LitServe, generic
    ("POST", "/v1/config/reload"),
    ("POST", "/v1/config/models/colours"),
    ("DELETE", "/v1/models/colours"),
    ("POST", "/api/jobs/"),
    ("PUT", "/api/serve/applications/"),
    ("POST", "/shutdown"),
    ("POST", "/admin"),
    ("POST", "/api/models/colours"),
    ("DELETE", "/api/models/colours"),
    ("PUT", "/rollout/colours"),
    ("POST", "/api/rollout/colours"),
]

BODIES = (
    b"",
    b"{}",
    b'{"parameters":{"config":"{}","file:1/model.onnx":"AAAA"}}',
    b'{"trace_level":["TIMESTAMPS"],"trace_file":"/tmp/x","log_file":"/tmp/x","log_verbose_level":1}',
)
SHOWN = {"/v2/logging", "/v2/trace/setting", "/v2/models/colours/trace/setting"}
"""A POST that wants no other setting is answered with those there are."""


@pytest.mark.parametrize(("method", "path"), CHANGES, ids=lambda value: value[:40])
def test_nobody_changes_the_server_without_being_allowed_to(target: Target, method: str, path: str) -> None:
    with httpx.Client(base_url=target.url, timeout=30) as http:
        before = http.post("/v2/repository/index").json()
        for headers in ({}, {"Authorization": "Bearer guess"}, {"X-Forwarded-For": "127.0.0.1"}):
            for body in BODIES:
                reply = http.request(method, path, content=body, headers=headers)
                shown = {200} if path in SHOWN and body == b"{}" else set()
                assert reply.status_code in {400, 401, 403, 404, 405, 501} | shown, reply.text
        assert http.post("/v2/repository/index").json() == before
