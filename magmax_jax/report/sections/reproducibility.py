"""The configuration, and how to reproduce the numbers."""

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import counted
from magmax_jax.registry import REPORT_SECTIONS
from magmax_jax.report.groups import Group, fields
from magmax_jax.report.inputs import changed_starts, differing_inputs
from magmax_jax.report.items import Column, Folded, Item, Note, Record, Table
from magmax_jax.report.section import Section


def configuration(group: Group) -> list[Item]:
    """Fields that are not at their defaults or differ between runs; the others are folded."""
    default = dict(fields(ExperimentConfig()))
    facts = {run.name: dict(fields(run.config)) for run in group.runs}
    differing: list[Record] = []
    changed: list[Record] = []
    rest: list[Record] = []
    for name, value in default.items():
        values = {run: facts[run][name] for run in facts}
        shared = values[group.names[0]] if len(set(values.values())) == 1 else None
        if shared is None:
            differing.append({"field": name, "default": value} | values)
        else:
            record = {"field": name, "value": shared, "default": value}
            (rest if shared == value else changed).append(record)
    first, last = Column("field", "Field"), Column("default", "Default")
    each = [first, *(Column(run, run) for run in facts), last]
    caption = "Fields of the configuration, as flags name them."
    several = "What was set in all runs" if len(group.runs) > 1 else "What was set"
    tables = [
        Table("config-differing", "Where the runs differ", caption, differing, each),
        Table("config", several, caption, changed, [first, Column("value", "Value"), last]),
    ]
    defaults = Table("config-defaults", "At their defaults", caption, rest, [first, last])
    folded = Folded(f"{counted(len(rest), 'field')} at the default", [defaults])
    return [*(table for table in tables if table.records), folded]


def items(group: Group) -> list[Item]:
    """Commands, versions and devices of every start."""
    starts = {run.name: run.about.get("starts", []) for run in group.runs}
    found: list[Item] = []
    if len(group.runs) == 1 and starts[group.names[0]]:
        command = starts[group.names[0]][0].get("command", "")
        found.append(Note("The command that made this run:", command))
    config = f"{_folder(group)}/config.json"
    found.append(
        Note(
            "The same experiment again, from the configuration in the run's folder; with the same "
            "versions on the same device it gives the same numbers:",
            group.program.line("run", "--config", config, "--out", "again"),
        )
    )
    unknown = [name for name, each in starts.items() if not each]
    if unknown:
        whose = "" if len(unknown) == len(group.runs) else f" of {'; '.join(unknown)}"
        found.append(Note(f"Commands, versions and devices{whose} were not recorded."))
    found += [Note(text) for text in (*changed_starts(group.runs), *differing_inputs(group.runs))]
    known = {name: each for name, each in starts.items() if each}
    return [*found, _starts(group, known), _versions(known)] if known else found


def _folder(group: Group) -> str:
    return group.runs[0].path.resolve().name if len(group.runs) == 1 else "RUN"


def _starts(group: Group, known: dict[str, list[Record]]) -> Table:
    seeds = {run.name: run.config.seed for run in group.runs}
    records = [
        {"run": name, "seed": seeds[name]}
        | {field: start.get(field) for field in ("time", "devices", "processes", "command")}
        for name, starts in known.items()
        for start in starts
    ]
    columns = [
        *group.run_columns,
        Column("time", "Started"),
        Column("seed", "Seed", str),
        Column("devices", "Devices"),
        Column("processes", "Processes", str),
        Column("command", "Command"),
    ]
    caption = "When, where and how runs were started or resumed."
    return Table("starts", "Starts and resumptions", caption, records, columns)


def _versions(known: dict[str, list[Record]]) -> Table:
    latest = {name: starts[-1].get("versions", {}) for name, starts in known.items()}
    packages = dict.fromkeys(package for versions in latest.values() for package in versions)
    records = [
        {"package": package} | {name: versions.get(package) for name, versions in latest.items()}
        for package in packages
    ]
    columns = [Column("package", "Package"), *(Column(name, name) for name in latest)]
    caption = "Of the packages at the latest start."
    return Table("versions", "Versions", caption, records, columns)


REPORT_SECTIONS.register("config", Section("Configuration", 170, configuration))
REPORT_SECTIONS.register("reproduce", Section("How to reproduce", 180, items))
