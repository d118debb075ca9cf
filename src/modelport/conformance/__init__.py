"""Checks of the Open Inference Protocol v2 against any server, over the wire and over nothing else.

    verdict.py   what a check says: pass, fail, not offered
    http.py      one request on a plain socket, and what came back as it came
    tensors.py   values in each datatype, as JSON and as bytes, and back
    answers.py   an inference answer, read strictly
    subject.py   what the server has: its models, and which of them the checks can use
    rpc.py       the same over gRPC
    checks/      the checks, a module for each part of the protocol
    run.py       runs them; report.py shows them; main.py is the command

Knows the protocol's text and no server: it shares no code with `modelport.serve`.
"""
