"""A module of ours in a process of its own, so that what crashes or hangs there costs only itself.

Messages go over the child's standard input and output: a JSON header, and bytes behind it. Nothing is unpickled, as the
child handles untrusted media. The child ends when its parent does.
"""

import contextlib
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hrpro_pipeline.errors import HrproError, one_line

Message = tuple[dict[str, Any], bytearray]

_LENGTHS = struct.Struct("<QQ")  # of the header and of the bytes
_PIPE_BYTES = 1 << 20
_REPORT_SECONDS = 0.3
_MAX_HEADER_BYTES, _MAX_PAYLOAD_BYTES = 1 << 24, 1 << 32


class ChildError(Exception):
    """The child died or went silent; the text says which, and how, in one line.

    Attributes:
        killed: a user or the system (out of memory) killed it; it did not crash by itself.
    """

    def __init__(self, text: str, killed: bool = False) -> None:
        super().__init__(text)
        self.killed = killed


class Channel:
    """Messages over a pair of file descriptors; several threads may send, one receives."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._sending = threading.Lock()
        with contextlib.suppress(OSError, AttributeError):  # a larger pipe saves switches, where the system allows it
            import fcntl

            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def send(self, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        """Send a message. Raises BrokenPipeError if the other side is gone."""
        text = json.dumps(header).encode()
        with self._sending:
            for part in (_LENGTHS.pack(len(text), len(payload)), text, payload):
                view = memoryview(part).cast("B")
                while view:
                    view = view[os.write(self._writer, view) :]

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message; None if the other side has closed. TimeoutError after so many seconds without a byte."""
        lengths = self._read(_LENGTHS.size, seconds)
        if lengths is None:
            return None
        header_bytes, payload_bytes = _LENGTHS.unpack(lengths)
        if header_bytes > _MAX_HEADER_BYTES or payload_bytes > _MAX_PAYLOAD_BYTES:
            return None  # not a message: the other side is broken
        text = self._read(header_bytes, seconds)
        payload = self._read(payload_bytes, seconds)
        if text is None or payload is None:
            return None
        try:
            header = json.loads(bytes(text))
        except ValueError:
            return None
        return (header, payload) if isinstance(header, dict) else None

    def _read(self, count: int, seconds: float | None) -> bytearray | None:
        buffer = bytearray(count)
        view = memoryview(buffer)
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while view:
            if seconds is not None and not poll.poll(seconds * 1000):
                raise TimeoutError
            num_bytes = os.readv(self._reader, [view])
            if num_bytes == 0:
                return None
            view = view[num_bytes:]
        return buffer


class Child(Channel):
    """Runs `python -m module`, which calls `serve()` for its side of the channel.

    Args:
        module: importable name.
        silence_seconds: a child that sends nothing for so long while it is waited for counts as hanging.
        environment: variables over those of this process.
    """

    def __init__(self, module: str, silence_seconds: float, environment: Mapping[str, str] | None = None) -> None:
        self.silence_seconds = silence_seconds
        # -P: nothing is imported from the folder that the user happens to be in.
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path} | dict(environment or {}),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        super().__init__(self._process.stdout.fileno(), self._process.stdin.fileno())

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def answer(self, extra_seconds: float = 0.0) -> Message:
        """The next message. Raises ChildError, and kills the child, if none comes in time."""
        seconds = self.silence_seconds + extra_seconds
        try:
            message = self.receive(seconds)
        except TimeoutError:
            self.close()
            raise ChildError(f"did not answer within {seconds:.3g} s") from None
        if message is None:
            raise self._death()
        return message

    def ask(self, header: dict[str, Any]) -> None:
        """Send a message. Raises ChildError, and cleans up, if the child is gone."""
        try:
            self.send(header)
        except OSError:
            raise self._death() from None

    def close(self) -> None:
        """Kill the child; more than once does no harm."""
        if self._process.poll() is None:
            # A child that has closed its pipe is exiting by itself: its own exit code is reported.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5 if self._has_closed_pipe() else 0)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a dead disk cannot even be killed
            self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()

    def _death(self) -> ChildError:
        self.close()
        code = self._process.returncode
        if code is None:
            return ChildError("cannot be killed")
        if code < 0:
            return ChildError(f"crashed ({signal.Signals(-code).name})", killed=code == -signal.SIGKILL)
        return ChildError(f"ended with exit code {code}")

    def _has_closed_pipe(self) -> bool:
        poll = select.poll()
        with contextlib.suppress(ValueError, OSError):
            poll.register(self._reader, select.POLLIN)
            return any(event & select.POLLHUP for _, event in poll.poll(0))
        return False


def serve() -> Channel:
    """The child's side: its standard input and output become the channel, and what it prints goes to standard error."""
    reader, writer = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    return Channel(reader, writer)


def answer_requests(answer: Callable[[dict[str, Any], Channel], None]) -> None:
    """The child's side of requests about files: answer each until there are no more.

    An error is answered as `failed` with a `reason`; the next file may be fine.

    Args:
        answer: takes a request, which names the file by `path`, and the channel to answer on.
    """
    channel = serve()
    while (message := channel.receive()) is not None:
        request = message[0]
        name = Path(request["path"]).name
        try:
            answer(request, channel)
        except BrokenPipeError:
            return
        except HrproError as error:
            channel.send({"kind": "failed", "reason": str(error)})
        except Exception as error:  # noqa: BLE001  a file of an unforeseen kind
            channel.send({"kind": "failed", "reason": f"{name}: {type(error).__name__}: {one_line(error)}"})


class FrameReporter:
    """Sends the number of frames that are done a few times a second, which is a sign of life, too."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._last = channel, -math.inf

    def __call__(self, done: int, total: int) -> None:
        """Report frames that are done, and about how many there are."""
        if time.monotonic() - self._last > _REPORT_SECONDS:
            self._last = time.monotonic()
            self._channel.send({"kind": "frames", "done": done, "total": total})


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
