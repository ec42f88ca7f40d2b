"""Each in a process of its own, since the C library is told once."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from wardround.shared.allocator import keep_freed_memory, return_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def pass_chunks():
    before = faults()
    for _ in range(100):
        chunks = [b"x" * 2**20 for _ in range(3)]
        del chunks
    return faults() - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

keep_freed_memory()
pass_chunks()
print(pass_chunks(), end=" ")
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc what it is to keep")
def test_memory_of_chunks_is_used_again_and_given_back_when_asked() -> None:
    words = [sys.executable, "-c", PROGRAM]
    answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    faults, pages = (int(number) for number in answer.split())
    assert faults < 300  # 256 pages a chunk, of which 300 passed
    assert pages >= 2 * 256
