"""Runs the published command line, unmodified, again and again: `osb.py`, each line of standard input a run as JSON, its answer a line too.

A run is {"args": […], "stdin": "…"}, an answer {"status": …, "out": "…", "err": "…"}. Each run is a process of its own, as from a shell, with its
own files for input and output. What they share is that its modules are loaded already, which takes longer than most runs.
"""
import json
import os
import sys
import tempfile
import traceback

from opensandbox_cli.main import cli


def act(args, files):
    """What a process does that was started for one run. It never returns."""
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
    sys.stdin = open(0)
    sys.argv = ["osb", *args]
    status = 1
    try:
        cli()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run(args, text):
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(text.encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            act(args, (given, out, err))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return {"status": status, "out": texts[0], "err": texts[1]}


# Copies, so that no run finds a buffer with what belongs to another.
requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for line in requests:
    request = json.loads(line)
    print(json.dumps(run(request["args"], request.get("stdin", ""))), file=answers, flush=True)
