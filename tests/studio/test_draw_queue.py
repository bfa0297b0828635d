"""The queue for drawing: in order, one process, what happens when it dies; and the worker's own answers."""

import os
import signal
import sys
import time

import pytest

from helpers.paths import ROOT
from textual_inversion.studio import draw_queue, worker
from textual_inversion.studio.draw_queue import CANCELLED, DONE, DRAWING, FAILED, WAITING, DrawQueue, QueueFull

# Draws nothing: waits as long as it is told, or does what it is told otherwise.
FAKE = """
import json, os, signal, sys, time
class Stop(BaseException): pass
def stop(*_): raise Stop
signal.signal(signal.SIGTERM, stop)
for line in sys.stdin:
    words = json.loads(line)["words"]
    status = 0
    try:
        print("denoising step 1/4  0:01 elapsed, 0:03 remaining", file=sys.stderr, flush=True)
        if words[0] == "die": os._exit(3)
        if words[0] == "refuse": print("error: " + words[1], file=sys.stderr, flush=True); status = 2
        if words[0] == "wait": time.sleep(float(words[1]))
        if words[0] == "pid": print(os.getpid(), file=sys.stderr, flush=True)
        if words[0] == "chat": print("no answer", flush=True)
    except Stop:
        status = 143
    print(json.dumps({"status": status}), flush=True)
"""


@pytest.fixture
def queue():
    made = DrawQueue([sys.executable, "-u", "-c", FAKE])
    yield made
    made.close()


def wait(ticket, *states, seconds=30.0):
    end = time.monotonic() + seconds
    while ticket.state not in (states or (DONE, FAILED, CANCELLED)):
        assert time.monotonic() < end, ticket
        time.sleep(0.01)
    return ticket.state


def test_requests_are_drawn_in_order_by_one_process_and_each_knows_its_place(queue, tmp_path):
    first, second, third = (queue.ask(["wait", "0.5"], tmp_path) for _ in range(3))
    wait(first, DRAWING)
    assert [queue.place(one) for one in (first, second, third)] == [0, 1, 2]
    assert queue.open_tickets() == [first, second, third] and second.state == WAITING

    assert [wait(one) for one in (first, second, third)] == [DONE] * 3
    assert first.ended <= second.begun <= second.ended <= third.begun
    assert first.progress == (1, 4, "0:03") and queue.open_tickets() == []


def test_the_process_stays_for_the_next_request_and_no_signal_of_the_terminal_reaches_it(queue, tmp_path):
    one, two = queue.ask(["pid"], tmp_path), queue.ask(["pid"], tmp_path)
    wait(one), wait(two)

    assert one.lines[-1] == two.lines[-1] == str(queue.process_id)
    assert os.getsid(queue.process_id) != os.getsid(0)


def test_what_the_command_refuses_is_its_own_line(queue, tmp_path):
    ticket = queue.ask(["refuse", "--seed is none; give one"], tmp_path)

    assert wait(ticket) == FAILED and ticket.said == "error: --seed is none; give one"


def test_a_process_that_dies_fails_its_request_and_another_one_draws_the_next(queue, tmp_path):
    dead, next_one = queue.ask(["die"], tmp_path), queue.ask(["pid"], tmp_path)

    assert wait(dead) == FAILED and "ended with status 3" in dead.said
    assert wait(next_one) == DONE
    waiting = queue.ask(["wait", "30"], tmp_path)
    wait(waiting, DRAWING)
    time.sleep(0.2)
    os.kill(queue.process_id, signal.SIGKILL)
    assert wait(waiting) == FAILED and "ended with signal 9" in waiting.said
    assert wait(queue.ask(["pid"], tmp_path)) == DONE


def test_a_request_can_be_cancelled_while_it_waits_and_while_it_is_drawn(queue, tmp_path):
    drawn, waiting = queue.ask(["wait", "30"], tmp_path), queue.ask(["wait", "30"], tmp_path)
    wait(drawn, DRAWING)
    queue.cancel(waiting)
    assert waiting.state == CANCELLED
    while not drawn.lines:  # the process has begun with it
        time.sleep(0.01)
    process = queue.process_id
    queue.cancel(drawn)
    end = time.monotonic() + 20
    while not drawn.ended:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert drawn.state == CANCELLED
    assert wait(queue.ask(["pid"], tmp_path)) == DONE and queue.process_id == process  # with its model


def test_what_a_library_prints_is_no_answer(queue, tmp_path):
    assert wait(queue.ask(["chat"], tmp_path)) == DONE


def test_a_queue_has_an_end(queue, tmp_path, monkeypatch):
    monkeypatch.setattr(draw_queue, "_MOST_WAITING", 1)
    wait(queue.ask(["wait", "2"], tmp_path), DRAWING)
    queue.ask(["wait", "0"], tmp_path)
    with pytest.raises(QueueFull):
        queue.ask(["wait", "0"], tmp_path)


def test_a_process_without_work_is_ended_after_a_while(tmp_path):
    queue = DrawQueue([sys.executable, "-u", "-c", FAKE], idle=0.3)
    wait(queue.ask(["pid"], tmp_path))
    end = time.monotonic() + 20
    while queue.process_id is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert wait(queue.ask(["pid"], tmp_path)) == DONE
    queue.close()


# ------------------------------------------------------------------------------------------------------- the worker


def test_a_model_is_loaded_once_until_another_one_is_asked_for_or_its_files_change(tmp_path):
    (tmp_path / "w").write_text("a")
    keep, key = worker.KeptModel(), (str(tmp_path), {"vae": None})
    first = keep(key, object)

    assert keep((str(tmp_path), {"vae": None}), object) is first and keep.loads == 1
    assert keep((str(tmp_path), {"vae": "x"}), object) is not first
    again = keep(key, object)
    (tmp_path / "w").write_text("bb")
    assert keep(key, object) is not again and keep.loads == 4


def test_a_load_that_fails_keeps_nothing(tmp_path):
    keep = worker.KeptModel()
    with pytest.raises(ZeroDivisionError):
        keep((str(tmp_path), 1), lambda: 1 / 0)
    assert keep((str(tmp_path), 1), lambda: 5) == 5


def test_the_worker_says_what_the_command_refuses(capsys):
    assert worker.run(["--seed", "x"], worker.KeptModel()) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
def test_every_image_is_to_the_last_byte_the_one_of_the_shown_command(tmp_path):
    """With other words and settings between, so that nothing of one request is left for the next."""
    import shlex
    import subprocess

    import numpy as np

    from helpers.tiny_models import build_model
    from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
    from textual_inversion.studio import command_lines

    base = build_model(tmp_path / "sd1")
    rows = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)
    for name, part in (("a", rows[:1]), ("b", rows[1:])):
        write_pdparams(tmp_path / f"{name}.pdparams", [LearnedEmbedding(f"<{name}>", {"text_encoder": part})])
    common = {"pretrained_model_name_or_path": str(base), "num_inference_steps": ["2"], "num_images": "2"}
    one = {"embeds": [str(tmp_path / "a.pdparams")], "prompt": ["a <a>", "<a> in the snow"], "seed": ["3"], **common}
    other = {"embeds": [str(tmp_path / f"{name}.pdparams") for name in "ab"], "prompt": ["<a> and <b>"], "seed": ["4"],
             "scheduler": ["euler"], "guidance_scale": ["2"], "negative_prompt": ["dark"], **common}  # fmt: skip
    compared = {"compare": [str(tmp_path / "a.pdparams")], "prompt": ["a <a>"], "seed": ["3", "5"], **common}
    queue, calls = DrawQueue(), {}
    for name, values in (("one", one), ("other", other), ("compared", compared), ("again", one)):
        folder = tmp_path / name
        words = command_lines.arguments("infer", {**values, "output_dir": str(folder)})
        ticket = queue.ask(words, folder)
        assert wait(ticket, seconds=300) == DONE, ticket.said
        calls[name] = command_lines.shown("infer", words)
    queue.close()

    for name in ("one", "other", "compared", "again"):
        call = calls[name].replace(str(tmp_path / name), str(tmp_path / f"{name}-alone"))
        words = [sys.executable, *shlex.split(call)[1:]]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        drawn = {path.name: path.read_bytes() for path in (tmp_path / name).glob("0*.png")}
        alone = {path.name: path.read_bytes() for path in (tmp_path / f"{name}-alone").glob("0*.png")}
        assert drawn == alone and len(drawn) in (2, 4)
