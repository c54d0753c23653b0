"""What tests/engines shows of one engine, of the other one too."""

from tests.engines.test_lost_process import source  # noqa: F401  (a fixture)
from tests.engines.test_nonfinite import alone, assert_left_out_and_stopped  # noqa: F401  (a fixture)
from tests.engines.test_terminated import assert_saved


def test_a_nan_of_one_process_under_fsdp2(tiny_model, alone, tmp_path):  # noqa: F811
    assert_left_out_and_stopped(str(tiny_model("llava")), alone, tmp_path, "fsdp2", 4, 1e-4)


def test_a_stream_under_ddp_that_is_told_to_end(tmp_path, tiny_model, source):  # noqa: F811
    assert_saved(tmp_path, str(tiny_model("llava")), source, "ddp")
