"""One file for each class of attack on a model server, A1 to A18; each against the real server.

A14 and A15 are in one file. A17, comparing keys, is in tests/serve/guard/test_guard.py, where one can see
what is compared.
"""
