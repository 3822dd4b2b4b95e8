"""The fault suite: plays scenarios on the real nodes over DDS and judges what was published. ``latent-mpc faults``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_mpc.bringup import find_shared
from latent_mpc.domains import quiet_domain
from latent_mpc.faults_checks import CHECKS
from latent_mpc.faults_conductor import ConductorError
from latent_mpc.faults_evidence import Evidence, Finding
from latent_mpc.faults_recording import load
from latent_mpc.faults_rows import ROWS
from latent_mpc.faults_run import Played, left_behind, play
from latent_mpc.faults_scenario import Scenario, ScenarioError, read_scenario
from latent_mpc.markdown_table import markdown_table

FOLDER = Path("benchmarks", "faults")
_ATTEMPTS = 2


@dataclass(frozen=True)
class Result:
    """What came of one scenario: a finding per check, or why it could not be played."""

    scenario: Scenario
    findings: dict[str, Finding]
    seconds: float
    broken: str = ""

    @property
    def met(self) -> bool:
        """Whether every check meets its bar."""
        return not self.broken and all(finding.met for finding in self.findings.values())

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        findings = {
            name: {
                "bar": self.scenario.checks[name],
                "measured": finding.measured,
                "met": bool(finding.met),
                "values": [float(v) for v in finding.values],
            }
            for name, finding in self.findings.items()
        }
        return {
            "name": self.scenario.name,
            "row": self.scenario.row,
            "met": bool(self.met),
            "seconds": round(self.seconds, 1),
            "broken": self.broken,
            "checks": findings,
        }


def scenarios(names: Sequence[str] = ()) -> list[Scenario]:
    """The shipped scenarios in the order of the fault table, or those called ``names``.

    Raises:
        ScenarioError: one is malformed, two have the same name, or there is none of that name.
        BringupError: there is no folder of scenarios.
    """
    rows = list(ROWS)
    read = [read_scenario(file, CHECKS) for file in sorted(find_shared(FOLDER).glob("*.yaml"))]
    found = {scenario.name: scenario for scenario in read}
    if len(found) < len(read):
        raise ScenarioError("two scenarios have the same name")
    for name in names:
        if name not in found:
            raise ScenarioError(f"no scenario '{name}'; there are {', '.join(sorted(found))}")
    chosen = [found[name] for name in names] if names else list(found.values())
    return sorted(chosen, key=lambda scenario: rows.index(scenario.row))


def judge(scenario: Scenario, played: Played) -> Result:
    """What was published, check by check.

    Raises:
        BagError: the recording cannot be read.
    """
    recording = load(played.bag)
    evidence = Evidence(scenario, recording, played, recording.windows(scenario.window_s))
    return Result(scenario, {name: CHECKS[name](evidence, bar) for name, bar in scenario.checks.items()}, played.seconds)


def run_faults(chosen: Sequence[Scenario], out: Path, domain: int | None = None, report: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Play scenarios one after another, each on a ROS domain that nobody uses unless one is given; bags and logs go to ``out/<name>``.

    A scenario whose nodes do not come up is tried once more: on a machine under load discovery fails now and then, and that is no finding.

    Raises:
        ScenarioError: ``out`` holds the bags of an earlier run.
    """
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    results = []
    for scenario in chosen:
        if (out / scenario.name).exists():
            raise ScenarioError(f"{out / scenario.name} exists; choose another folder")
    for scenario in chosen:
        for attempt in range(_ATTEMPTS):
            folder = out / scenario.name / str(attempt)
            folder.mkdir(parents=True)
            try:
                result = judge(scenario, play(scenario, folder, quiet_domain() if domain is None else domain))
                break
            except ConductorError as error:
                result = Result(scenario, {}, 0.0, str(error))
        results.append(result)
        report(result)
    return results


def judge_again(chosen: Sequence[Scenario], out: Path, report: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Judge what an earlier run left in ``out``, without playing anything; scenarios that it did not play are passed over.

    Raises:
        ScenarioError: it holds none of them.
    """
    results = []
    for scenario in chosen:
        folders = sorted(folder for folder in (out / scenario.name).glob("*") if (folder / "bag" / "metadata.yaml").is_file())
        if folders:
            results.append(judge(scenario, left_behind(folders[-1])))
            report(results[-1])
    if not results:
        raise ScenarioError(f"{out} holds no recordings of these scenarios")
    return results


def with_earlier(results: Sequence[Result], file: Path) -> list[dict[str, Any]]:
    """The results for machines, after those of other scenarios that ``file`` holds, if it is there.

    Raises:
        ScenarioError: it holds something else.
    """
    fresh = [result.to_json() for result in results]
    names = {entry["name"] for entry in fresh}
    if not file.is_file():
        return fresh
    try:
        earlier = [entry for entry in json.loads(file.read_text())["scenarios"] if entry["name"] not in names]
    except (ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{file} holds no results of this command; choose another file") from error
    return [*earlier, *fresh]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The fault table in Markdown, with what was measured beside the bar, of results as they are for machines."""
    lines = []
    for row, bar in ROWS.items():
        mine = [result for result in results if result["row"] == row]
        measured = "<br>".join(f"*{r['name']}*: " + (r["broken"] or _in_words(r["checks"])) for r in mine)
        verdict = "not run" if not mine else "yes" if all(result["met"] for result in mine) else "**no**"
        lines.append((row, bar, measured or "-", verdict))
    return markdown_table(("fault", "bar", "measured", "met"), lines)


def _in_words(checks: Mapping[str, Mapping[str, Any]]) -> str:
    """Findings in a row, unmet ones bold. That nobody died goes without saying."""
    worth_saying = [finding for name, finding in checks.items() if name != "alive" or not finding["met"]]
    return "; ".join(str(finding["measured"]) if finding["met"] else f"**{finding['measured']}**" for finding in worth_saying)
