"""Processes that take turns, for train.py: all but one are stopped (SIGSTOP), so that what is compared met the same minutes.

A machine's speed changes with its neighbours and its temperature, within minutes by half; the ratio of two processes that
work in turn, a second or a step each, hardly does.
"""

import json
import math
import signal
import subprocess
import time

TURN_SECONDS = 1  # a turn takes at least one step and at least so long


class Failed(Exception):
    """A process that ended before its work was done; the text is the last it said."""


class Turns:
    """A process that works only in its turns; inside `with`, at whose end it is killed."""

    def __init__(self, command, **popen):
        self.begin = time.time()
        self.process = subprocess.Popen(command, text=True, **popen)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def _resume(self):
        self.process.send_signal(signal.SIGCONT)

    def _pause(self):
        self.process.send_signal(signal.SIGSTOP)


class Training(Turns):
    """A training run. A subclass's run(steps) makes them and returns their seconds."""

    def warm_up(self):
        """Makes the first two steps and chooses how many a turn takes."""
        self.run(1)
        self.first_step_seconds = time.time() - self.begin
        self.seconds_per_step = self.run(1)
        self.steps = max(1, math.ceil(TURN_SECONDS / self.seconds_per_step))

    def turn(self):
        """Steps a second."""
        return self.steps / self.run(self.steps)


class Ours(Training):
    """mora-train; its lines on stderr tell its steps."""

    def __init__(self, command, folder):
        super().__init__(command, stderr=subprocess.PIPE, cwd=folder)
        self.said = []

    def run(self, steps):
        self._resume()
        begin = time.time()
        while steps:
            line = self.process.stderr.readline()
            if not line:
                raise Failed("".join(self.said))
            self.said.append(line)
            steps -= line.startswith("step ")
        seconds = time.time() - begin
        self._pause()
        return seconds


class Answering(Turns):
    """A Python program that answers every line of its input with a line of JSON."""

    def __init__(self, command, log, env):
        self.log = log
        with log.open("w") as f:
            super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=f, env=env)

    def ask(self, line):
        self._resume()
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # its end is seen below
        answer = self.process.stdout.readline()
        if not answer:
            raise Failed((self.log.read_text().strip().splitlines() or ["it ended"])[-1])
        self._pause()
        return json.loads(answer)


class Peer(Answering, Training):
    """peer.py."""

    def run(self, steps):
        answer = self.ask(steps)
        self.peak_memory_bytes = answer["peak_memory_bytes"]
        return answer["seconds"]
