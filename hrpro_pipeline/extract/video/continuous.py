"""Timestamps of packets as they are meant: where a clock is set anew (recordings joined by `cat`), and in AVI."""

from collections.abc import Iterable, Iterator

import av

# Containers of which one file after the other is a file.
JOINABLE = {"mpegts", "mpeg"}

# Steps of the clock, from packet to packet in the order of decoding, that no recording has: players and ffmpeg go on
# after them as if there were none.
_MOST_BACK_SECONDS = 0.2
_MOST_AHEAD_SECONDS = 10.0


class Continuous:
    """A stream's packets, with timestamps that go on where the clock is set anew; iterated once.

    AVI has no times of presentation: a frame's place in the file is its time. FFmpeg makes some up for H.264, one place
    late, which moves a frame wherever places are left empty.

    Args:
        packets: as they are in the file.
        container: FFmpeg's name; packets of containers that are not joined so are left alone.

    Attributes:
        num_parts: between such places, so far.
    """

    def __init__(self, packets: Iterable[av.Packet], container: str) -> None:
        self._packets = packets
        self._is_joinable = container in JOINABLE
        self._is_avi = container == "avi"
        self._last: int | None = None
        self._shift = self._end = self._step = 0
        self.num_parts = 1

    def __iter__(self) -> Iterator[av.Packet]:
        for packet in self._packets:
            if self._is_avi and packet.size and packet.dts is not None:
                packet.pts = packet.dts
            if self._is_joinable and packet.size:
                self._go_on(packet)
            yield packet

    def _go_on(self, packet: av.Packet) -> None:
        first = packet.pts if packet.pts is not None else packet.dts
        if packet.dts is not None and packet.time_base:
            if self._last is not None and first is not None:
                step = packet.dts - self._last
                if -_MOST_BACK_SECONDS <= step * packet.time_base <= _MOST_AHEAD_SECONDS:
                    self._step = max(0, step)
                else:
                    self._shift = self._end - first
                    self.num_parts += 1
            self._last = packet.dts
        if first is None:
            return
        packet.dts = packet.dts + self._shift if packet.dts is not None else None
        packet.pts = packet.pts + self._shift if packet.pts is not None else None
        self._end = max(self._end, first + self._shift + (packet.duration or self._step))
