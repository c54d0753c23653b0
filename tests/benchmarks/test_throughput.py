"""The model of costs, by hand and at its limits."""

from dataclasses import replace

import pytest
from benchmarks.throughput import Machine, Shape, online_step, pair_flops, pairs_a_second, traffic_seconds

SHAPE = Shape(language=1e9, tower=1e8, adapter=1e6, prompt=100, patches=400, response=50)
MACHINE = Machine(flops=1e12, mfu=0.5, memory=1e12, within_host=1e9, between_hosts=1e8)


def test_a_pair_by_hand():
    # 200 tokens: reference 2, policy 2 + 2 (+ 2 where weights train) FLOPs a weight; the tower 2 a patch
    assert pair_flops(SHAPE, full=False) == 6e9 * 200 + 2e8 * 400
    assert pair_flops(SHAPE, full=True) == 8e9 * 200 + 2e8 * 400


def test_traffic_by_hand():
    assert traffic_seconds(SHAPE, MACHINE, 1, "fsdp2", full=True) == 0
    assert traffic_seconds(SHAPE, MACHINE, 2, "ddp", full=False) == pytest.approx(2 * 4e6 / 2 / 1e9)
    assert traffic_seconds(SHAPE, MACHINE, 2, "fsdp2", full=False) == pytest.approx((3 * 2e9 + 4e6) / 2 / 1e9)
    assert traffic_seconds(SHAPE, MACHINE, 2, "fsdp2", full=True) == pytest.approx((2 * 4e9 + 4e9) / 2 / 1e9)
    ratio = traffic_seconds(SHAPE, MACHINE, 16, "ddp", full=False) / traffic_seconds(
        SHAPE, replace(MACHINE, between_hosts=1e9), 16, "ddp", full=False
    )
    assert ratio == pytest.approx(10)


def test_more_processes_do_more_and_never_more_than_as_many_times():
    one, eight = (pairs_a_second(SHAPE, MACHINE, n, "ddp", full=False, rows=16, rows_a_forward=4) for n in (1, 8))
    assert one == pytest.approx(5e11 / pair_flops(SHAPE, full=False))
    assert one < eight < 8 * one


def test_rollout_servers_shorten_the_sampling_and_nothing_else():
    alone, with_servers, with_many = (online_step(SHAPE, MACHINE, 8, servers) for servers in (0, 16, 4096))
    assert alone > with_servers > with_many
    assert with_many >= 256 * (4e9 * 500 + 2e8 * 400) / 5e11 / 8
