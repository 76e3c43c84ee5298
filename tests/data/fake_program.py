"""A program that fetches a file, for tests that have no network."""

import subprocess
from pathlib import Path


class FakeProgram:
    """Stands in for subprocess.run: exits with `code`, says `stderr`, and leaves `content` under a name, if any."""

    def __init__(self, leaves, code=0, stderr="", content=None):
        self.leaves, self.code, self.stderr, self.content = leaves, code, stderr, content
        self.commands = []

    def __call__(self, command, cwd, **_options):
        self.commands.append(command)
        if self.content is not None:
            Path(cwd, self.leaves).write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.code, "", self.stderr)
