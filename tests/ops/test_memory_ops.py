"""The allocator setting is harmless and reported."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_keep_freed_memory_in_a_process_of_its_own():
    code = (
        "from mssg.ops import memory as ops; kept = ops.keep_freed_memory(); import torch; torch.zeros(1 <<"
        " 24); print(kept)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
