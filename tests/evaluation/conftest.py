"""Fixtures: a judge behind an endpoint."""

from tests.judge_server import server as server
