"""The command line: ``latent-mpc``.

Exit status 0 is success, 1 a task that failed, 2 bad input with one line on stderr. Each command imports what it runs only when it runs, so that
``--help`` is quick and a slim installation does without the training libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.commands_arm import check_arm
from latent_mpc.commands_bag import bag
from latent_mpc.commands_bench import bench
from latent_mpc.commands_check import check
from latent_mpc.commands_collect import ENVIRONMENT, collect
from latent_mpc.commands_dataset import dataset
from latent_mpc.commands_exploration import compare_exploration
from latent_mpc.commands_export import export, parity
from latent_mpc.commands_faults import faults
from latent_mpc.commands_guard_loop import bench_guardrail
from latent_mpc.commands_head import head
from latent_mpc.commands_hostile import hostile
from latent_mpc.commands_node_loop import bench_nodes
from latent_mpc.commands_objectives import compare_objectives, pretrain
from latent_mpc.commands_parameters import parameters
from latent_mpc.commands_replay import replay
from latent_mpc.commands_robustness import robustness
from latent_mpc.commands_solvers import compare_solvers
from latent_mpc.commands_surprise import surprise
from latent_mpc.commands_tensorrt import tensorrt
from latent_mpc.commands_training import bench_training, train
from latent_mpc.json_file import write_json
from latent_mpc.progress import progress

FAILED_STATUS, BAD_INPUT_STATUS = 1, 2

app = typer.Typer(
    name="latent-mpc",
    help="A robot arm reaches a goal that it is shown as a picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(robustness)
app.command("check-arm")(check_arm)
app.command()(check)
app.command()(pretrain)
app.command()(surprise)
app.command()(faults)
app.add_typer(head)
app.add_typer(dataset)
app.add_typer(bag)
app.add_typer(tensorrt)
bag.command()(replay)
app.command("compare-objectives")(compare_objectives)
app.command()(compare_exploration)
app.command()(compare_solvers)
app.command()(hostile)
app.command()(bench)
app.command("bench-guardrail")(bench_guardrail)
app.command("bench-nodes")(bench_nodes)
app.command()(parameters)

# typer reads these at run time, where Python 3.10 cannot look into `X | None` of a string.
JsonOption = Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")]  # noqa: UP045


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="reach, push, push-far, or wall: reach with a forbidden wall in between.")] = "push-far",
    episodes: Annotated[int, typer.Option(help="Episodes to play.")] = 3,
    seed: Annotated[int, typer.Option(help="Evaluation seed that starts and goals are drawn from.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for summary, bag, film and report; an earlier demo in it is replaced.")] = Path("runs/demo"),
    model: Annotated[Optional[Path], typer.Option(help="Model bundle; by default the shipped one for the task.")] = None,  # noqa: UP045
    domain: Annotated[Optional[int], typer.Option(help="ROS domain; by default one that nobody uses.")] = None,  # noqa: UP045
    mode: Annotated[str, typer.Option(help="planner, actor (alone) or cem (without the actor).")] = "planner",
    view: Annotated[bool, typer.Option("--view", help="Open PyBullet's window.")] = False,
    bag: Annotated[bool, typer.Option(help="Record a bag; without one there is no limit check, film or report.")] = True,
    report: Annotated[bool, typer.Option(help="Make film and report.")] = True,
    json: JsonOption = None,
) -> None:
    """Run all nodes over ROS 2 in simulation: the arm brings the scene to what the goal picture shows."""
    from latent_mpc.demo import DemoConfig, DemoFailedError, run_demo

    try:
        summary = run_demo(DemoConfig(task, episodes, seed, out, model, domain, view, bag, report, mode))
    except DemoFailedError as error:
        raise _failed(str(error)) from error
    if json is not None:
        write_json(json, summary.to_json())
    typer.echo(f"{sum(e.success for e in summary.result.episodes)} of {episodes} reached; results in {out}")
    if summary.limit_violations or not any(e.success for e in summary.result.episodes):
        raise typer.Exit(FAILED_STATUS)


app.command()(collect)


app.command()(train)


app.command()(export)
app.command()(parity)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Model bundle.")],
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="reach, push, push-far, push-further, push-around; wall, disc, goal-disc, push-wall or push-disc."),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes for each seed.")] = 100,
    seed: Annotated[Optional[list[int]], typer.Option(help="Evaluation seed; may be given several times.")] = None,  # noqa: UP045
    policy: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="planner, planner_untold, actor, actor_stop, actor_slide, cem_300x30[_h8], any solver, random, oracle; pairs are with the first."
        ),
    ] = None,
    manifest: Annotated[Optional[Path], typer.Option(help="Starts and goals: read if the file exists, else drawn and written.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes; results do not depend on their number.")] = 2,
    look: Annotated[Optional[list[str]], typer.Option(help="What looks different: camera, light, colours, distractor; may be repeated.")] = None,  # noqa: UP045
    arm_in_goal: Annotated[bool, typer.Option(help="Whether the goal picture shows the arm.")] = True,
    guardrail_head: Annotated[Optional[list[Path]], typer.Option(help="Folder of a guardrail head for the search; may be repeated.")] = None,  # noqa: UP045
    untrained: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Training configuration whose networks, with random weights, take the model's place."),
    ] = None,
    in_the_way: Annotated[bool, typer.Option("--in-the-way", help="Only episodes in which what a head's rule forbids is in the way.")] = False,
    delay: Annotated[int, typer.Option(help="Steps of 0.2 s between a picture and the action that was decided on it.")] = 0,
    compensate: Annotated[bool, typer.Option(help="Whether the planner rolls the latent through the actions that run meanwhile.")] = True,
    outcomes: Annotated[Path, typer.Option(help="Every episode's outcome, as JSON lines.")] = Path("runs/evaluation/outcomes.jsonl"),
    record: Annotated[bool, typer.Option("--record", help="Write the table into the bundle's manifest.")] = False,
    env: Annotated[Optional[str], typer.Option(help="A Gymnasium environment instead of a task.", rich_help_panel=ENVIRONMENT)] = None,  # noqa: UP045
    goal: Annotated[
        str,
        typer.Option(
            help="ahead: what the collecting policy leads to; reset: another start; module:callable: a policy.", rich_help_panel=ENVIRONMENT
        ),
    ] = "ahead",
    goal_steps: Annotated[int, typer.Option(help="How many steps ahead the goal is.", rich_help_panel=ENVIRONMENT)] = 15,
    steps: Annotated[Optional[int], typer.Option(help="Steps allowed; twice --goal-steps by default.", rich_help_panel=ENVIRONMENT)] = None,  # noqa: UP045
    judge: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="module:Class that says what success is; see docs/data.md.", rich_help_panel=ENVIRONMENT),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Play episodes without ROS, with the random policy and the oracle beside the planner."""
    from contextlib import nullcontext
    from dataclasses import replace

    from world_model.bundle import record_evaluation

    if untrained is not None and (record or task is None):
        raise ValueError("--untrained goes with --task, and its results are in no bundle's manifest: leave --record out")
    seeds = tuple(seed or [0])
    with progress("episodes") as report:
        if env is not None and task is None:
            from latent_mpc.environment_evaluate import POLICIES, EnvironmentEvaluation, evaluate_environment
            from latent_mpc.environment_evaluate import table as environment_table

            names = tuple(policy or POLICIES)
            played = EnvironmentEvaluation(model, env, episodes, seeds, names, goal, goal_steps, steps, judge, workers)
            result = evaluate_environment(played, outcomes, report)
            text = environment_table(result)
        elif task is not None and env is None:
            from latent_mpc.evaluate import Evaluation, table
            from latent_mpc.evaluate import evaluate as run_evaluation
            from latent_mpc.policies import Delay
            from latent_mpc.untrained_bundle import untrained_bundle

            names = tuple(policy or ("planner", "actor", "cem", "random", "oracle"))
            asked = Evaluation(
                model,
                task,
                _positive("episodes", episodes),
                seeds,
                names,
                manifest,
                _positive("workers", workers),
                look=tuple(look or ()),
                arm_in_goal=arm_in_goal,
                guardrail_heads=tuple(guardrail_head or ()),
                delay=Delay(delay, compensate),
                in_the_way=in_the_way,
            )
            with untrained_bundle(untrained, model, task) if untrained else nullcontext(model) as bundle:
                result = run_evaluation(replace(asked, model=bundle), outcomes, report)
            text = table(result)
        else:
            raise ValueError("say what to play: either --task or --env")
    if json is not None:
        write_json(json, result)
    if record:
        record_evaluation(model, result)
    typer.echo(text)


app.command("bench-training")(bench_training)


@app.command("check-bag")
def check_bag(
    bag: Annotated[Path, typer.Argument(help="Bag folder.")],
    urdf: Annotated[Path, typer.Option("--urdf", help="URDF whose <limit> tags hold position, velocity, acceleration and jerk limits.")],
    topic: Annotated[Optional[str], typer.Option("--topic", help="Command topic; by default the controller's that the bag holds.")] = None,  # noqa: UP045
    json: JsonOption = None,
) -> None:
    """Check the commands in a bag against the limits in a URDF, knowing nothing of who made them."""
    from dataclasses import asdict

    from latent_mpc.check_bag import check_bag as check
    from latent_mpc.check_bag import summary

    report = check(bag, urdf, topic)
    if json is not None:
        write_json(json, asdict(report))
    typer.echo(summary(report))
    if report.total:
        raise typer.Exit(FAILED_STATUS)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is {value}, must be at least 1")
    return value


def _failed(reason: str) -> typer.Exit:
    sys.stderr.write(f"latent-mpc: {' '.join(reason.split())}\n")
    return typer.Exit(FAILED_STATUS)


def _asked_for(arguments: Sequence[str]) -> typer.Typer:
    """The application, or only the group of commands that ``arguments`` begin with: typer builds all there are before it looks which is meant."""
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance is not None]
    asked = next((group for group in groups if arguments and group.info.name == arguments[0]), None)
    if asked is None:
        return app
    only = typer.Typer(name=app.info.name, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    only.add_typer(asked)
    return only


def run(arguments: Sequence[str]) -> int:
    """Run one command; bad input (``ValueError``, ``OSError``, wrong usage) becomes one line on stderr and status 2."""
    try:
        status = _asked_for(arguments)(list(arguments), prog_name="latent-mpc", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.TyperException as error:
        reason = error.format_message()
    except typer.Abort:
        reason = "interrupted"
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    except ValueError as error:
        reason = str(error)
    sys.stderr.write(f"latent-mpc: error: {' '.join(reason.split())}\n")
    return BAD_INPUT_STATUS


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
