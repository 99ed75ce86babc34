"""Commands that run no network start without the libraries that take seconds to import."""

import subprocess
import sys
import zipfile

CHECK = """
import contextlib, sys
from dsrl.cli.main import main
import dsrl.demo.archives, dsrl.data.preprocess, dsrl.inference.frames
with contextlib.suppress(SystemExit):
    main(["--help"])
main(["unpack", "a.zip", "--output", "raw"])
slow = {"torch", "torchvision", "timm", "pandas", "matplotlib", "av"} & sys.modules.keys()
print(*slow, file=sys.stderr)
"""


def test_commands_that_run_no_network_import_no_slow_library(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "a")
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (tmp_path / "raw" / "a").exists() and "usage: dsrl" in done.stdout
    assert done.stderr == "\n"
