"""A recording laid out for playing: the frames of all its connections merged by time, and which stream each is of."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.simulator.captures import Recording
from actors.simulator.session import EVERYBODY, Recorded, Session, Stream
from actors.simulator.sessions import session_at


class Tape:
    """Frames that can be replayed, in order of their recorded times; each connection keeps its own order.

    Where two connections had the same stream, one takes over from the other where its own begins (with a snapshot):
    changes of two at once would make no book. Changes without a snapshot before them are left out.
    """

    def __init__(self, recording: Recording) -> None:
        recorded: list[Recorded] = []
        for connection in recording.connections:
            recorded += session_at(recording.exchange, connection.target).read(connection.target, connection.frames)
        lengths = [len(one.frames) for one in recording.connections]
        times = np.concatenate([np.array(one.times, np.int64) for one in recording.connections])
        # Never falling within a connection, even where the recorded clock did.
        due = np.concatenate([np.maximum.accumulate(np.array(one.times, np.int64)) for one in recording.connections])
        #: When the first frame came, played or not.
        self.first_t_ns = int(due.min())
        connections = np.repeat(np.arange(len(lengths)), lengths)

        self._numbers: dict[Stream | int, int] = {}
        #: What the exchange called its streams.
        self.known_numbers: dict[Stream, int] = {}
        #: Frames about a connection are streams of their own; they go with any other stream of that connection.
        self._companions: dict[int, set[int]] = {}
        owners: dict[Stream, int] = {}
        played: list[int] = []
        streams: list[int] = []
        order = np.argsort(due, kind="stable")
        for at, connection in zip(order.tolist(), connections[order].tolist(), strict=True):
            one = recorded[at]
            if one.number is not None:
                self.known_numbers.setdefault(one.stream, one.number)
            about = self._number(connection)
            number = about
            if one.stream != EVERYBODY:
                number = self._number(one.stream)
                self._companions.setdefault(about, set()).add(number)
            if one.state == "unplayed":
                continue
            if one.state == "snapshot":
                owners[one.stream] = connection
            elif one.state == "change" and owners.get(one.stream) != connection:
                continue
            played.append(at)
            streams.append(number)

        self.frames = [recorded[at].frame for at in played]
        #: Recorded times (int64 ns), and the same without steps back.
        self.times = times[played]
        self.due = due[played]
        self.sizes = np.array([len(frame) for frame in self.frames], np.int64)
        #: The number of each frame's stream, and whether the stream can begin there.
        self.stream_numbers = np.array(streams, np.int64)
        self.begins = np.array([recorded[at].state == "snapshot" for at in played], np.bool_)
        #: The streams by their numbers; `EVERYBODY` for frames about a connection.
        self.streams = [key if isinstance(key, Stream) else EVERYBODY for key in self._numbers]
        by_stream = np.argsort(self.stream_numbers, kind="stable")
        ends = np.searchsorted(self.stream_numbers[by_stream], np.arange(len(self.streams) + 1))
        self._positions = [by_stream[start:end] for start, end in pairwise(ends)]

    def wanted(self, session: Session) -> frozenset[int]:
        """The numbers of all streams that go to a session."""
        own = {number for number, stream in enumerate(self.streams) if stream != EVERYBODY and session.wants(stream)}
        return frozenset(own.union(about for about, members in self._companions.items() if members & own))

    def positions(self, number: int) -> NDArray[np.int64]:
        """All frames of a stream."""
        return self._positions[number]

    def positions_again(self, number: int, reached: int) -> NDArray[np.int64]:
        """The frames for a client that had the stream before and has come to `reached`: from the last snapshot up to
        there, if the stream has snapshots."""
        own = self._positions[number]
        if self.streams[number] == EVERYBODY:
            return own[own > reached]
        begun = own[self.begins[own] & (own <= reached)]
        return own[own >= begun[-1]] if len(begun) else own

    def _number(self, key: Stream | int) -> int:
        return self._numbers.setdefault(key, len(self._numbers))
