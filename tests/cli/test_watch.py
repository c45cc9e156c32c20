"""`python -m experiments.watch`: runs written step by step, and what a look at them shows."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from magmax_jax.cli import watch
from magmax_jax.cli.watching import Follower, JsonLines, overview, screen, snapshot
from magmax_jax.cli.watching.screen import Sparkline, duration
from magmax_jax.config import ExperimentConfig, MethodConfig
from magmax_jax.errors import exit_code
from magmax_jax.evaluation.rows import Row
from magmax_jax.io.atomic import write_text
from magmax_jax.runs.directory import METRICS, RunDirectory

ROOT = Path(__file__).parents[2]
CONFIG = ExperimentConfig(merges=("max_magnitude",))
TASKS = ("task 1", "task 2", "task 3")
STEPS = 4
NOW = 1_000_000.0


class Writer:
    """Writes a run's files as a run does: 3 tasks of 4 steps, 2 models."""

    def __init__(self, path: Path, config: ExperimentConfig = CONFIG, tells: bool = True):
        self.out = RunDirectory(path)
        self.out.start(config)
        self.path = path
        if tells:
            learned = [{"name": name, "steps": STEPS, "images": 40, "epochs": 1} for name in TASKS]
            about = {"scenario": "digits, class-incremental", "learned": learned, "models": 2}
            (path / "about.json").write_text(json.dumps(about))
        self.date(NOW)

    def train(self, task: int, steps, loss: float = 1.0, **changes) -> None:
        with (self.path / METRICS).open("a") as file:
            for step in steps:
                record = {
                    "task": task,
                    "step": step,
                    "total_step": (task - 1) * STEPS + step,
                    "loss": loss,
                    "learning_rate": 1e-5,
                    "seconds": 60.0 if step == 1 else 2.0,
                    "images_per_second": 5.0,
                }
                file.write(json.dumps(record | changes) + "\n")
        self.date(NOW)

    def evaluate(self, after: int, *models: str) -> None:
        for name in models or ("finetuned", "max_magnitude"):
            scale = 0.5 if name == "max_magnitude" else None
            base = {"zero_shot": 0.2, "finetuned": 0.3, "max_magnitude": 0.4}[name]
            self.out.append(
                Row(after, name, scale, protocol, group, base + after / 10 + bonus, 10)
                for protocol, bonus in (("agnostic", 0.0), ("aware", 0.1))
                for group in ("all", *TASKS)
            )
        self.date(NOW)

    def date(self, when: float) -> None:
        for file in self.path.iterdir():
            os.utime(file, (when, when))

    def whole(self) -> "Writer":
        self.evaluate(0, "zero_shot")
        for task in (1, 2, 3):
            self.train(task, range(1, 1 + STEPS))
            self.evaluate(task)
        return self


@pytest.fixture
def run(tmp_path) -> Writer:
    return Writer(tmp_path / "run")


def look(run: Writer, follower: Follower | None = None, now: float = NOW):
    return snapshot((follower or Follower(run.path)).look(now))


def text(shown, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    return console.file.getvalue()


def shown(run: Writer, now: float = NOW, width: int = 200) -> str:
    return text(screen(look(run, now=now), now), width)


def test_a_run_is_followed_from_its_start_to_its_end(run):
    follower = Follower(run.path)

    def where():
        now = look(run, follower)
        return now.state, now.task, now.step, now.evaluated

    assert where() == ("starting", 1, 0, 0)
    assert "starting: zero-shot accuracy comes first" in shown(run)
    run.evaluate(0, "zero_shot")
    assert where() == ("starting", 1, 0, 0)
    assert "starting task 1 of 3" in shown(run)
    run.train(1, (1, 2, 3))
    assert where() == ("training", 1, 3, 0)
    run.train(1, (4,))
    assert where() == ("evaluating", 1, 4, 0)
    run.evaluate(1, "finetuned")
    assert where() == ("evaluating", 1, 4, 1)
    assert "evaluating after task 1 of 3: 1 of 2 models" in shown(run)
    run.evaluate(1, "max_magnitude")
    assert where() == ("starting", 2, 0, 0)
    run.train(2, (1,))
    assert where() == ("training", 2, 1, 0)
    run.train(2, (2, 3, 4))
    run.evaluate(2)
    run.train(3, (1, 2, 3, 4))
    run.evaluate(3, "finetuned")
    assert where() == ("evaluating", 3, 4, 1)
    run.evaluate(3, "max_magnitude")
    assert where() == ("finished", 3, 4, 2)
    assert "finished, 3 tasks" in shown(run)


def test_the_screen_of_a_run_in_training(run):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1)
    run.train(2, (1, 2, 3), loss=0.5)
    (run.path / "checkpoints" / "5").mkdir(parents=True)
    (run.path / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    os.utime(run.path / "checkpoints" / "5", (NOW - 120, NOW - 120))
    told = shown(run, NOW + 12)
    assert "training task 2 of 3" in told
    assert "digits, class-incremental; sequential fine-tuning" in told
    assert "7/12 steps" in told and "3/4 steps" in told
    # 5 steps of 2 s; the 60 s before task 2 were an evaluation, and two are to come
    assert "2 min left" in told and "2 s left" in told and ">" not in told
    assert "loss 0.500" in told and "rate 1.0e-05" in told and "5 images/s" in told
    assert "last line 12 s ago, checkpoint 5 2 min ago" in told
    lines = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.strip()}
    assert lines["zero-shot"] == ["20.0%", "30.0%"]
    assert lines["max_magnitude@0.5"] == ["50.0%", "+30.0", "60.0%"]


def test_forgetting_is_that_of_the_tasks_so_far(run):
    run.evaluate(0, "zero_shot")
    for task in (1, 2):
        run.train(task, range(1, 5))
        run.evaluate(task)
    model = look(run).models[-1]
    assert (model.label, model.after) == ("max_magnitude@0.5", 2)
    assert model.change == pytest.approx(0.1) and model.forgetting == pytest.approx(-0.1)


def test_before_an_evaluation_was_timed_there_is_at_least_so_much_left(run):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3))
    assert "> 18 s left" in shown(run)  # 9 steps of 2 s


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_wider_than_the_terminal_or_cut_off(run, width):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1)
    run.train(2, (1, 2, 3))
    path = Path("run")  # the paths of tests are long
    told = text(screen(dataclasses.replace(look(run), path=path), NOW), width)
    assert max(map(len, told.splitlines())) <= width and "…" not in told
    for words in ("max_magnitude@0.5", "+30.0", "images/s", "2 min left", "forgetting"):
        assert words in told


def test_a_pipe_that_knows_ascii_alone_gets_ascii(run):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2))
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=100).print(screen(look(run), NOW), overview([look(run)], NOW))
    file.flush()
    assert b"loss 1.000" in file.buffer.getvalue()


def test_silence_is_told(run):
    run.train(1, (1, 2))
    assert "may have stopped" not in shown(run, NOW + 299)
    assert "nothing for 6 min: it may have stopped" in shown(run, NOW + 360)
    assert "quiet" in text(overview([look(run)], NOW + 360))


def test_a_loss_that_is_not_finite_is_told(run):
    run.train(1, (1, 2))
    run.train(1, (3,), loss=float("nan"))
    assert "diverged in task 1 of 3: a loss is not finite" in shown(run)


def test_a_run_that_goes_on_from_a_checkpoint_loses_steps_and_rows(run):
    follower = Follower(run.path)
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1, "finetuned")
    run.train(2, (1, 2, 3))
    assert look(run, follower).total_step == 7
    kept = (run.path / METRICS).read_text().splitlines(keepends=True)[:5]
    write_text(run.path / METRICS, "".join(kept))
    run.out.keep(row for row in run.out.rows() if row.after_task == 0)
    now = look(run, follower)
    assert (now.total_step, now.step) == (5, 1) and len(now.models) == 1
    run.train(2, (2, 3, 4), loss=0.25)
    assert look(run, follower).losses == (1.0, 0.25, 0.25, 0.25)


def test_a_run_that_starts_again_is_seen_from_its_start(run):
    follower = Follower(run.path)
    assert look(run.whole(), follower).state == "finished"
    run.out.start(CONFIG)
    now = look(run, follower)
    assert (now.state, now.task, now.models, now.losses) == ("starting", 1, (), ())


@pytest.mark.parametrize("joint", [False, True], ids=["stream", "joint"])
def test_a_run_that_does_not_tell_about_itself_is_shown_as_far_as_it_goes(tmp_path, joint):
    config = dataclasses.replace(CONFIG, method=MethodConfig(joint=joint))
    run = Writer(tmp_path / "old", config, tells=False)
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3))
    told = shown(run)
    assert f"training task 1 of {1 if joint else 3}" in told and "3 steps" in told
    assert f"cifar100, class-incremental; {'joint' if joint else 'sequential'}" in told
    run.evaluate(1, "finetuned")
    assert look(run).state == ("finished" if joint else "evaluating")


def test_another_machines_clock_does_not_make_news_old(run):
    follower = Follower(run.path)
    run.train(1, (1,))
    look(run, follower, NOW + 1000)
    run.train(1, (2,))  # dated long ago
    assert look(run, follower, NOW + 1010).written == NOW + 1000
    run.date(NOW + 9000)
    assert look(run, Follower(run.path), NOW).written == NOW  # nor lets it come from the future


def test_torn_lines_wait_until_they_are_whole(tmp_path):
    lines = JsonLines(tmp_path / "lines.jsonl")
    assert lines.look() == (False, [])
    lines.path.write_text('{"a": 1}\n{"a"')
    assert lines.look()[1] == [{"a": 1}]
    assert lines.look() == (False, [])
    with lines.path.open("a") as file:
        file.write(": 2}\n\0\0\0\n")  # as a shared disk shows what has not arrived
    assert lines.look() == (False, [{"a": 2}])
    text = lines.path.read_bytes().replace(b"\0\0\0", b'{"a": 3}')
    lines.path.write_bytes(text)  # in place, as it arrives
    assert lines.look() == (False, [{"a": 3}])


def test_only_what_was_added_is_read(tmp_path, monkeypatch):
    lines = JsonLines(tmp_path / "lines.jsonl")
    lines.path.write_text("".join(json.dumps({"a": i}) + "\n" for i in range(1000)))
    assert len(lines.look()[1]) == 1000
    parsed = []
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or {})
    with lines.path.open("a") as file:
        file.write('{"a": 1000}\n')
    assert lines.look() == (False, [{}]) and parsed == [b'{"a": 1000}\n']


def test_files_that_were_replaced_cut_or_taken_away_are_read_anew(tmp_path):
    lines = JsonLines(tmp_path / "lines.jsonl")
    lines.path.write_text('{"a": 1}\n{"a": 2}\n')
    lines.look()
    write_text(lines.path, '{"a": 1}\n{"a": 2}\n{"a": 3}\n')
    assert lines.look() == (True, [{"a": 1}, {"a": 2}, {"a": 3}])
    lines.path.write_text('{"a": 1}\n')
    assert lines.look() == (True, [{"a": 1}])
    lines.path.write_text('{"b": 1}\n{"b": 2}\n')  # the same file, other words
    assert lines.look() == (True, [{"b": 1}, {"b": 2}])
    lines.path.unlink()
    assert lines.look() == (True, [])
    assert lines.look() == (False, [])


def test_a_disk_that_stumbles_changes_nothing(run, monkeypatch):
    follower = Follower(run.path)
    before = look(run.whole(), follower)

    def stale(*_, **__):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stale)
        patch.setattr(Path, "read_text", stale)
        during = look(run, follower)
    assert (during.state, during.models) == (before.state, before.models)


def test_sparklines_follow_the_numbers():
    assert Sparkline([0, 1, 2, 3, 4, 5, 6, 7]).text(20) == "▁▂▃▄▅▆▇█"
    assert Sparkline([0, 0, 7, 7]).text(2) == "▁█"
    assert Sparkline([3.0] * 5).text(3) == "▁▁▁" and Sparkline([]).text(9) == ""


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 40))
def test_a_sparkline_fills_its_place_and_has_a_bar_for_every_share(numbers, width):
    assert len(Sparkline(numbers).text(width)) == min(width, len(numbers))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (3599, "1 h 00 min"),
        (7530, "2 h 06 min"),
        (86399, "1 d 00 h"),
        (273_600, "3 d 04 h"),
    ],
)
def test_durations_are_told_in_their_largest_units(seconds, words):
    assert duration(seconds) == words


def test_a_folder_of_runs_has_a_line_for_each(tmp_path):
    Writer(tmp_path / "grid" / "ewc" / "seed-1").whole()
    begun = Writer(tmp_path / "grid" / "seq" / "seed-1")
    begun.evaluate(0, "zero_shot")
    begun.train(1, (1, 2, 3))
    Writer(tmp_path / "grid" / "lwf" / "seed-1")
    (tmp_path / "grid" / "model").mkdir()
    (tmp_path / "grid" / "model" / "config.json").write_text('{"model_type": "clip"}')
    watcher = watch.Watcher([tmp_path / "grid"])
    runs = watcher.look(NOW)
    told = text(watch.show(runs, NOW))
    assert "1 training, 1 starting, 1 finished" in told
    lines = [line.split() for line in told.splitlines() if "seed-1" in line]
    assert lines == [
        ["seq/seed-1", "training", "1/3", "3/4", "20.0%", ">", "18", "s"],
        ["lwf/seed-1", "starting", "1/3", "0/4"],
        ["ewc/seed-1", "finished", "3/3", "4/4", "70.0%"],
    ]
    assert not watcher.is_over(runs, NOW)
    begun.train(1, (4,))
    assert "evaluating" in text(watch.show(watcher.look(NOW), NOW))


def test_watching_ends_with_the_run_but_in_a_folder_another_may_begin(run, tmp_path):
    run.whole()
    for folder, over in ((run.path, True), (tmp_path, False)):
        watcher = watch.Watcher([folder])
        assert watcher.is_over(watcher.look(NOW), NOW) is over
        assert watcher.is_over(watcher.look(NOW), NOW + 301)
    assert not watch.Watcher([tmp_path / "later"]).is_over([], NOW)


def test_a_live_watch_ends_by_itself_or_by_ctrl_c_and_leaves_the_last_look(run, monkeypatch):
    run.evaluate(0, "zero_shot")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            for task in (1, 2, 3):
                run.train(task, range(1, 5))
                run.evaluate(task)

    monkeypatch.setattr(watch.time, "sleep", sleep)
    file = io.StringIO()
    console = Console(file=file, width=80, height=40, force_terminal=True)
    watch.follow(watch.Watcher([run.path]), 0.5, console)
    assert looks == [0.5] and file.getvalue().count("finished, 3 tasks") == 2

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupted)
    run.out.start(CONFIG)
    run.out.about.write_text("{}")
    watch.follow(watch.Watcher([run.path]), 0.5, console)
    left = file.getvalue().rpartition("\x1b[?1049l")[2]  # behind the end of the other screen
    assert "starting: zero-shot accuracy comes first" in left


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no RUN is given"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["empty"], "empty: no run is there yet"),
        (["empty", "--every", "0"], "--every is 0.0"),
    ],
    ids=["none", "missing", "empty", "every"],
)
def test_mistakes_are_a_sentence(tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert exit_code(lambda: watch.main(argv)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {words}") and told.count("\n") == 1


def test_the_command_prints_one_look_into_a_pipe(run):
    run.whole()
    command = [sys.executable, "-m", "experiments.watch", str(run.path), "--once"]
    env = os.environ | {"COLUMNS": "200"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "finished, 3 tasks" in ended.stdout and "\x1b" not in ended.stdout
    waiting = subprocess.run(
        [*command[:3], str(run.path / "later"), "--wait"], capture_output=True, text=True, cwd=ROOT
    )
    assert (waiting.returncode, waiting.stdout) == (0, "waiting for a run to begin\n")


def test_watching_does_without_jax():
    program = (
        "import sys, experiments.watch\n"
        "print([m for m in ('jax', 'flax', 'orbax', 'grain') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.stdout.strip() == "[]", ended.stderr
