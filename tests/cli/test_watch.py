"""`magmax watch`: runs written step by step, and what is shown at each point."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from magmax_jax.cli import watch
from magmax_jax.cli.run_status import RunFollower, Status
from magmax_jax.config import ExperimentConfig, MergingConfig, MethodConfig, ScenarioConfig
from magmax_jax.errors import exit_code
from magmax_jax.evaluation.metrics import last_accuracy
from magmax_jax.evaluation.rows import Row
from magmax_jax.io.atomic import write_text
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.file_names import METRICS

ROOT = Path(__file__).parents[2]
CONFIG = ExperimentConfig(merges=("max_magnitude",))
TASKS = ("task 1", "task 2", "task 3")
STEPS = 4
NOW = 1_000_000.0


class Writer:
    """Writes a run's files as a run does: 3 tasks of 4 steps, 2 models."""

    def __init__(self, path: Path, config: ExperimentConfig = CONFIG, manifest: bool = True):
        self.out = RunDirectory(path)
        self.out.start(config)
        self.path = path
        if manifest:
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

    def evaluate(self, after: int, *models: str, aware: float = 0.1) -> None:
        for name in models or ("finetuned", "max_magnitude"):
            scale = 0.5 if name == "max_magnitude" else None
            base = {"zero_shot": 0.2, "finetuned": 0.3, "max_magnitude": 0.4}[name]
            self.out.append(
                Row(after, name, scale, protocol, group, base + after / 10 + bonus, 10)
                for protocol, bonus in (("agnostic", 0.0), ("aware", aware))
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


def look(run: Writer, follower: RunFollower | None = None, now: float = NOW) -> Status:
    return (follower or RunFollower(run.path)).look(now)


def text(shown, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    return console.file.getvalue()


def shown(run: Writer, now: float = NOW, width: int = 200) -> str:
    return text(watch.show([look(run, now=now)], now), width)


def lines(shown_text: str) -> dict[str, list[str]]:
    """The words of each line, keyed by the first."""
    return {line.split()[0]: line.split()[1:] for line in shown_text.splitlines() if line.strip()}


def test_a_run_is_followed_from_its_start_to_its_end(run):
    follower = RunFollower(run.path)

    def where():
        now = look(run, follower)
        return now.state, now.task, now.step

    assert where() == ("starting", 1, 0)
    run.evaluate(0, "zero_shot")
    assert where() == ("starting", 1, 0)
    run.train(1, (1, 2, 3))
    assert where() == ("training", 1, 3)
    run.train(1, (4,))
    assert where() == ("evaluating", 1, 4)
    run.evaluate(1, "finetuned")
    assert where() == ("evaluating", 1, 4)
    run.evaluate(1, "max_magnitude")
    assert where() == ("starting", 2, 0)
    run.train(2, (1,))
    assert where() == ("training", 2, 1)
    run.train(2, (2, 3, 4))
    run.evaluate(2)
    run.train(3, (1, 2, 3, 4))
    run.evaluate(3, "finetuned")
    assert where() == ("evaluating", 3, 4)
    run.evaluate(3, "max_magnitude")
    assert where() == ("finished", 3, 4)


def test_a_run_in_training_shows_its_step_time_left_and_last_accuracies(run):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1)
    run.train(2, (1, 2, 3), loss=0.5)
    shown_text = lines(shown(run, NOW + 12))
    # 5 steps of 2 s; the 60 s before task 2 were an evaluation, and two more follow
    assert shown_text[str(run.path)] == ["training", "2/3", "3/4", "0:02:10", "0.500", "50.0%"]
    assert shown_text["zero-shot"] == ["0", "20.0%", "30.0%"]
    assert shown_text["max_magnitude@0.5"] == ["1", "50.0%", "60.0%"]
    assert shown_text["last"] == ["fine-tuned", "1", "40.0%", "50.0%"]


def test_equal_accuracies_are_shown_once(run):
    run.evaluate(0, "zero_shot", aware=0.0)
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1, aware=0.0)
    shown_text = shown(run)
    assert lines(shown_text)["max_magnitude@0.5"] == ["1", "50.0%"] and "aware" not in shown_text


def test_before_the_first_evaluation_only_steps_count_as_time_left(run):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3))
    assert look(run).seconds_left == 9 * 2
    run.whole()
    assert look(run).seconds_left is None


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_wider_than_the_terminal_or_cut_off(run, width):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1)
    run.train(2, (1, 2, 3))
    short = dataclasses.replace(look(run), path=Path("run"))  # the paths of tests are long
    shown_text = text(watch.show([short], NOW), width)
    assert max(map(len, shown_text.splitlines())) <= width and "…" not in shown_text
    for words in ("training", "2/3", "0:02:10", "max_magnitude@0.5", "50.0%"):
        assert words in shown_text


def test_an_ascii_only_pipe_gets_ascii(run):
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2))
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=100).print(watch.show([look(run)], NOW))
    file.flush()
    assert b"1.000" in file.buffer.getvalue()


def test_silence_is_reported(run):
    run.train(1, (1, 2))
    assert "silent" not in shown(run, NOW + 300)
    assert "training, silent for 0:06:00" in shown(run, NOW + 360)
    run.whole()
    assert "silent" not in shown(run, NOW + 360)


def test_a_loss_that_is_not_finite_is_reported(run):
    run.train(1, (1, 2))
    run.train(1, (3,), loss=None)  # as runs write it: JSON has no NaN
    assert "diverged" in shown(run)


def test_a_run_resumed_from_a_checkpoint_drops_later_steps_and_rows(run):
    follower = RunFollower(run.path)
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3, 4))
    run.evaluate(1)
    run.train(2, (1, 2, 3))
    assert (look(run, follower).task, look(run, follower).step) == (2, 3)
    kept = (run.path / METRICS).read_text().splitlines(keepends=True)[:3]
    write_text(run.path / METRICS, "".join(kept))
    run.out.keep(row for row in run.out.rows() if row.after_task == 0)
    now = look(run, follower)
    assert (now.state, now.task, now.step) == ("training", 1, 3) and list(now.agnostic) == [
        "zero_shot"
    ]
    run.train(1, (4,), loss=0.25)
    assert look(run, follower).loss == 0.25


def test_a_restarted_run_is_followed_from_its_start(run):
    follower = RunFollower(run.path)
    assert look(run.whole(), follower).state == "finished"
    run.out.start(CONFIG)
    now = look(run, follower)
    assert (now.state, now.task, now.agnostic, now.loss) == ("starting", 1, {}, None)


@pytest.mark.parametrize("joint", [False, True], ids=["stream", "joint"])
def test_a_run_without_a_manifest_is_shown_as_far_as_possible(tmp_path, joint):
    config = dataclasses.replace(CONFIG, method=MethodConfig(joint=joint))
    run = Writer(tmp_path / "old", config, manifest=False)
    run.evaluate(0, "zero_shot")
    run.train(1, (1, 2, 3))
    tasks = 1 if joint else 3
    assert lines(shown(run))[str(run.path)] == ["training", f"1/{tasks}", "3/?", "1.000", "20.0%"]
    run.evaluate(1, "finetuned")
    assert look(run).state == ("finished" if joint else "evaluating")


def test_the_clock_of_the_writing_machine_does_not_matter(run):
    follower = RunFollower(run.path)
    run.train(1, (1,))
    look(run, follower, NOW + 1000)
    run.train(1, (2,))  # dated long ago
    assert look(run, follower, NOW + 1010).written == NOW + 1010
    assert look(run, follower, NOW + 2000).written == NOW + 1010
    run.date(NOW + 9000)
    assert look(run, now=NOW).written == NOW  # not in the future either


def test_a_transient_disk_error_changes_nothing(run, monkeypatch):
    follower = RunFollower(run.path)
    before = look(run.whole(), follower)

    def stale(*_, **__):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stale)
        patch.setattr(Path, "read_text", stale)
        during = look(run, follower)
    assert during.state == before.state and [*during.agnostic] == [*before.agnostic]


def test_accuracies_match_the_rows(run):
    run.whole()
    found = look(run).agnostic["max_magnitude@0.5"]
    assert found.learned == 3 and last_accuracy(found, weighted=True) == pytest.approx(0.7)


def test_a_folder_of_runs_has_one_line_per_run(tmp_path):
    Writer(tmp_path / "grid" / "ewc" / "seed-1").whole()
    begun = Writer(tmp_path / "grid" / "seq" / "seed-1")
    begun.evaluate(0, "zero_shot")
    begun.train(1, (1, 2, 3))
    Writer(tmp_path / "grid" / "lwf" / "seed-1")
    (tmp_path / "grid" / "model").mkdir()
    (tmp_path / "grid" / "model" / "config.json").write_text('{"model_type": "clip"}')
    watcher = watch.Watcher([tmp_path / "grid"])
    runs = watcher.look(NOW)
    rows = lines(text(watch.show(runs, NOW)))
    found = {name: rows[str(tmp_path / "grid" / name / "seed-1")] for name in ("seq", "lwf", "ewc")}
    assert found == {
        "seq": ["training", "1/3", "3/4", "0:00:18", "1.000", "20.0%"],
        "lwf": ["starting", "1/3", "0/4"],
        "ewc": ["finished", "3/3", "4/4", "1.000", "70.0%"],
    }
    assert not watcher.is_over(runs, NOW)
    begun.train(1, (4,))
    assert "evaluating" in text(watch.show(watcher.look(NOW), NOW))


def test_watching_a_run_ends_with_it_but_a_folder_may_get_another(run, tmp_path):
    run.whole()
    for folder, over in ((run.path, True), (tmp_path, False)):
        watcher = watch.Watcher([folder])
        assert watcher.is_over(watcher.look(NOW), NOW) is over
        assert watcher.is_over(watcher.look(NOW), NOW + 301)
    assert not watch.Watcher([tmp_path / "later"]).is_over([], NOW)


def test_a_live_watch_ends_by_itself_or_on_ctrl_c_and_leaves_the_last_view(run, monkeypatch):
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
    assert looks == [0.5] and file.getvalue().count("finished") == 2

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupted)
    run.out.start(CONFIG)
    run.out.about.write_text("{}")
    watch.follow(watch.Watcher([run.path]), 0.5, console)
    left = file.getvalue().rpartition("\x1b[?1049l")[2]  # after the alternate screen has closed
    assert "starting" in left


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no RUN is given"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["empty"], "empty: there is no run yet"),
        (["empty", "--every", "0"], "--every is 0.0"),
    ],
    ids=["none", "missing", "empty", "every"],
)
def test_invalid_input_gives_a_one_sentence_error(tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert exit_code(lambda: watch.main(argv)) == 2
    shown_text = capsys.readouterr().err
    assert shown_text.startswith(f"error: {words}") and shown_text.count("\n") == 1


def test_the_command_prints_one_look_into_a_pipe(run):
    run.whole()
    command = [sys.executable, "-m", "experiments.watch", str(run.path), "--once"]
    env = os.environ | {"COLUMNS": "200"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "finished" in ended.stdout and "\x1b" not in ended.stdout
    waiting = subprocess.run(
        [*command[:3], str(run.path / "later"), "--wait"], capture_output=True, text=True, cwd=ROOT
    )
    assert (waiting.returncode, waiting.stdout) == (0, "waiting for a run to begin\n")


def test_watching_does_not_import_jax():
    program = (
        "import sys, experiments.watch\n"
        "print([m for m in ('jax', 'flax', 'orbax', 'grain') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.stdout.strip() == "[]", ended.stderr


@pytest.mark.parametrize(("evaluate", "evaluated"), [("last", (3,)), (2, (2, 3))])
def test_a_run_not_evaluated_after_every_task_is_followed(tmp_path, evaluate, evaluated):
    run = Writer(tmp_path / "run", dataclasses.replace(CONFIG, evaluate=evaluate))
    follower = RunFollower(run.path)
    run.evaluate(0, "zero_shot")
    for task in (1, 2, 3):
        run.train(task, (1, 2, 3))
        now = look(run, follower)
        assert (now.state, now.task, now.step) == ("training", task, 3)
        # The 60 s before task 3 were an evaluation if task 2 was evaluated; one more follows.
        pause = 60 if task == 3 and 2 in evaluated else 0
        assert now.seconds_left == 2 * (STEPS * (3 - task) + 1) + pause
        run.train(task, (4,))
        state = "evaluating" if task in evaluated else "starting"
        assert look(run, follower).state == state
        if task in evaluated:
            run.evaluate(task)
    assert look(run, follower).state == "finished"
    assert look(run, follower).agnostic["finetuned"].learned == 3


def test_a_run_is_not_finished_until_it_has_chosen_scales(tmp_path):
    scenario = ScenarioConfig(validation=0.1)
    merging = MergingConfig(scales="0.3")
    config = dataclasses.replace(CONFIG, scenario=scenario, merging=merging)
    run = Writer(tmp_path / "run", config).whole()
    assert look(run).state == "evaluating"
    row = Row(3, "max_magnitude", 0.3, "agnostic", "all", 0.5, 9, chosen="validation")
    run.out.keep_swept([row])
    assert look(run).state == "finished"
