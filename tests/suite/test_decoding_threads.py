"""Many threads may decode a type for the first time at once; msgspec alone ends the process then."""

from __future__ import annotations

import subprocess
import sys

CODE = """from __future__ import annotations
import msgspec
class A(msgspec.Struct):
    x: int
    y: str | None = None
class B(msgspec.Struct):
    a: tuple[A, ...]
    b: dict[str, A]
    c: list[tuple[A, int]] | None = None
class C(msgspec.Struct):
    b: B
    a: A
    d: tuple[B, ...] = ()
"""
SCRIPT = f"""
import sys, threading, types
from backout.decoding import decode_json, decode_values
sys.setswitchinterval(1e-6)
for n in range(60):
    module = sys.modules[f"made{{n}}"] = types.ModuleType(f"made{{n}}")
    exec({CODE!r}, module.__dict__)
    together = threading.Barrier(8)
    def decode(k):
        together.wait()
        if k % 2:
            decode_json(b'{{"b":{{"a":[{{"x":1}}],"b":{{"k":{{"x":2}}}}}},"a":{{"x":3}}}}', module.C)
        else:
            decode_values({{"b": {{"a": [{{"x": 1}}], "b": {{}}}}, "a": {{"x": 3}}}}, module.C)
    threads = [threading.Thread(target=decode, args=(k,)) for k in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
print("alive")
"""


def test_a_type_may_be_decoded_for_the_first_time_by_many_threads() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr[-500:]


CATALOGUE = """
import sys, threading
from pathlib import Path
import backout
from backout.providers.files.signatures import read_catalogue
sys.setswitchinterval(1e-6)
folder = Path(backout.__file__).with_name("catalogue") / "signatures"
together, found = threading.Barrier(16), []
def read():
    together.wait()
    found.append(len(read_catalogue([folder]).causes))
threads = [threading.Thread(target=read) for _ in range(16)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(len(found), len(set(found)), min(found) > 0)
"""


def test_many_guards_may_read_the_signatures_at_once() -> None:
    """As those of a worker do; each process begins anew, and one in four ended with a segmentation fault."""
    for _ in range(6):
        ended = subprocess.run([sys.executable, "-c", CATALOGUE], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (0, "16 1 True\n"), ended.stderr[-500:]
