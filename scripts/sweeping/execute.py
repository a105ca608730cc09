"""Runs what a sweep has left to do. A run's folder is finished when its marker was written, after its last command."""
import concurrent.futures
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import threading

MARKER = "sweep_done.json"


def commands_of(sweep, run, output, build, threads):
    """Training and what comes after it, as lists of words."""
    folder = output / run.name
    words = [str(build / "mora-train"), "--config", str(sweep.config), "--resume", "--threads", str(threads)]
    for key, value in run.settings + (("output_dir", str(folder)),):
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    places = {"run": str(folder), "config_dir": str(sweep.config.parent)}
    after = [[str(build / command[0])] + [word.format(**places) for word in command[1:]] for command in sweep.after]
    return [words] + after


def identity(sweep, run, output, build):
    """What makes a finished run stand for this one: its commands without the threads and the program's place."""
    return [[pathlib.Path(words[0]).name] + words[1:] for words in commands_of(sweep, run, output, build, 0)]


def is_finished(sweep, run, output, build):
    try:
        return json.loads((output / run.name / MARKER).read_text()) == identity(sweep, run, output, build)
    except (OSError, ValueError):
        return False


class Runner:
    """Runs of one sweep, several at a time. A signal is passed on to the programs, which save what they have; no other
    is started then."""

    def __init__(self, sweep, output, build, threads):
        self.sweep, self.output, self.build, self.threads = sweep, output, build, threads
        self.lock = threading.Lock()
        self.running = set()
        self.stopped_by = 0

    def say(self, text):
        with self.lock:
            print(text, file=sys.stderr, flush=True)

    def stop(self, number, _frame):
        self.stopped_by = number
        for process in list(self.running):
            process.send_signal(number)

    def call(self, words, file):
        """The program's exit code. In a process group of its own, so that a terminal's ^C reaches it once, from here."""
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   start_new_session=True)
        self.running.add(process)
        if self.stopped_by:
            process.send_signal(self.stopped_by)
        code = process.wait()
        self.running.discard(process)
        return code

    def run(self, run):
        """True when the run is finished afterwards."""
        if is_finished(self.sweep, run, self.output, self.build):
            self.say(f"{run.name}: finished before")
            return True
        log = self.output / f"{run.name}.log"
        if not self.stopped_by:
            self.say(f"{run.name}: started")
        for words in commands_of(self.sweep, run, self.output, self.build, self.threads):
            if self.stopped_by:
                return False
            with open(log, "ab") as file:
                file.write(f"$ {shlex.join(words)}\n".encode())
                file.flush()
                code = self.call(words, file)
            if self.stopped_by:
                self.say(f"{run.name}: stopped; the same command goes on with it")
                return False
            if code != 0:
                last = log.read_text(errors="replace").strip().splitlines()[-1]
                self.say(f"{run.name}: FAILED with exit code {code}: {last} (all of it: {log})")
                return False
        marker = self.output / run.name / MARKER
        marker.write_text(json.dumps(identity(self.sweep, run, self.output, self.build)))
        self.say(f"{run.name}: finished")
        return True


def run_all(sweep, runs, output, build, jobs, threads):
    """How many runs are not finished afterwards. Leaves the program when a signal stopped it."""
    output.mkdir(parents=True, exist_ok=True)
    runner = Runner(sweep, output, build, threads)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, runner.stop)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        unfinished = sum(not done for done in pool.map(runner.run, runs))
    if runner.stopped_by:
        raise SystemExit(128 + runner.stopped_by)
    return unfinished


def slurm_script(file, output, build, count):
    sweep = pathlib.Path(__file__).resolve().parents[1] / "sweep"
    words = [str(sweep), "run", str(file), "--output", str(output), "--build", str(build)]
    return f"""#!/bin/bash
#SBATCH --job-name={file.stem}
#SBATCH --array=0-{count - 1}
#SBATCH --requeue
#SBATCH --signal=B:INT@120
# A job that is stopped saves a checkpoint and goes on from it when it is queued again.
exec {shlex.join(words)} --only "$SLURM_ARRAY_TASK_ID"
"""
