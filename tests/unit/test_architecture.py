import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import jobs
from jobs.pipeline.required_options import REQUIRED
from jobs.pipeline.spark_properties import PACKAGES, read_properties

JOBS = Path(jobs.__file__).parent
ROOT = JOBS.parent
HEAVY = {"pyspark", "py4j", "pyarrow", "pandas", "numpy", "deltalake", "delta", "great_expectations"}

# The import diagram, lowest layer first. A module imports from layers below its own, never sideways or upwards;
# a layer is named for what its modules know. Names are relative to jobs.pipeline.
LAYERS = {
    "words": [
        *["errors", "failpoints", "hints", "lifeline", "terminal", "yaml_text", "ddl", "columns", "record", "jvm"],
        *["durations", "path_text", "required_options", "option_values", "bundle", "spark_properties"],
        *["quality.strftime", "quality.conditions", "offsets", "sources.json_files"],
    ],
    "words made of words": ["cron", "fleet", "storage", "dated_path", "sources.ranges"],
    "what the language's types share": ["strict"],
    "parts of the language": ["source_model", "table_model", "schedule_model"],
    "the language": ["model"],
    "locks": ["file_lock"],
    "tools": [
        *[
            "secret_text",
            "lease",
            "session",
            "sql_guard",
            "checkpoint",
            "manifest",
            "identity",
            "delta",
            "delta_reader",
            "command_lock",
            "backfill",
            "neighbours",
            "sources.text_values",
            "sources.partitions",
        ],
        "quality.parameters",
    ],
    "writes to a table": ["staged_append", "delta_upkeep"],
    "small tables": ["small_table"],
    "clients": ["sources.kafka_client"],
    "parts of a stage": [
        *["variables", "conf_messages", "conf_rules", "sources.files", "sources.kafka", "sources.file_faults"],
        *["quality.suite", "quality.expectations", "quality.verdict"],
    ],
    "parts of parts": ["quality.gathering", "conf_loader"],
    "stages": ["conf", "sources.source", "transforms", "quality.binding", "quality.gate", "quarantine", "sinks"],
    "accounts of the source": ["account", "lag"],
    "protocol": ["commit", "ledger", "failures", "entrypoint", "table_watch"],
    "a pipeline compiled": ["stages", "tables"],
    "decisions": ["release", "replay_marks"],
    "accounts of a batch": ["summary", "status", "batch"],
    "a pipeline prepared": ["prepare"],
    "second looks at a batch": ["isolation", "attempts"],
    "an operator's words": ["reset", "gap"],
    "looks before the first batch": ["preflight"],
    "accounts of a run": ["progress", "runner"],
    "several runs": ["side_by_side"],
    "accounts of no run": ["plan", "checkpoint_report", "rewind", "replay", "maintenance"],
}

# The fault harness, in the same way; names are relative to jobs.testing. It stands above the library and its entrypoints.
HARNESS = {
    "accounts": ["ids", "logs", "nemesis", "proxy"],
    "judgement": ["checker", "producers"],
    "subject": ["reader", "bed", "plain_job"],
    "kills": ["matrix"],
    "a pipeline under kills": ["lane"],
    "lanes and their results": ["workshop", "tally"],
    "all of them": ["torture"],
}

# What comes after what is for batch, prepare, runner and plan to know; a stage does not know the others.
STAGES = ["sources", "transforms", "quality", "quarantine", "sinks"]
WIRING = {"stages", "batch", "prepare", "isolation", "runner", "plan", "replay", "replay_marks"}

# Nothing above these needs a JVM, Arrow or Great Expectations: check, --help and DAG parsing rest on them.
LIGHT = [
    "cli",
    "check_conf",
    "pipeline.backfill",
    "pipeline.bundle",
    "pipeline.conf",
    "pipeline.dated_path",
    "pipeline.entrypoint",
    "pipeline.fleet",
    "pipeline.lifeline",
    "pipeline.model",
    "pipeline.quality.suite",
    "pipeline.quality.verdict",
    "pipeline.schedule_model",
    "pipeline.spark_properties",
]


DAG_BUILDERS = [f"jobs.orchestration.{name}" for name in ("dag_factory", "fleet_dag", "maintenance_dag", "replay_dag")]


@cache
def modules():
    """Every module of jobs/, by its name below `jobs.`; packages by their own name."""
    files = {file.relative_to(JOBS).with_suffix("").parts: file for file in JOBS.rglob("*.py")}
    return {".".join(part for part in parts if part != "__init__"): file for parts, file in files.items()}


def library():
    return {name.removeprefix("pipeline."): file for name, file in modules().items() if name.startswith("pipeline.")}


def is_package(name):
    return modules()[name].name == "__init__.py"


def imports(name, *, at_start_only=False):
    """Modules that a module of jobs/ imports, absolute; with `at_start_only` those that its own import loads."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    nodes = _executed_at_import(tree) if at_start_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import hides where a thing is"
            found |= {_module_in(f"{node.module}.{alias.name}") or node.module for alias in node.names}
    return found


def _executed_at_import(node):
    for child in ast.iter_child_nodes(node):
        is_for_typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not is_for_typing and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _executed_at_import(child)


def _module_in(name):
    return name if name.removeprefix("jobs.") in modules() else None


def own_imports(name, *, at_start_only=False):
    found = imports(name, at_start_only=at_start_only)
    return {one.removeprefix("jobs.") for one in found if one.startswith("jobs.")}


def loaded_by(name):
    """Top-level packages that importing a module of jobs/ loads, itself or through others."""
    seen, pending = set(), [name]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            parents = [".".join(one.split(".")[:depth]) for depth in range(one.count(".") + 1)]
            pending += [parent for parent in parents if parent in modules()]
            pending += [other for other in own_imports(one, at_start_only=True) if other in modules()]
    return {found.split(".")[0] for one in seen for found in imports(one, at_start_only=True)}


def test_every_module_of_the_library_has_its_place_in_the_diagram():
    placed = [name for names in LAYERS.values() for name in names]
    assert sorted(placed) == sorted(name for name in library() if not is_package(f"pipeline.{name}"))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_module_imports_only_from_layers_below_its_own(layer):
    below = {f"pipeline.{name}" for names in list(LAYERS.values())[: list(LAYERS).index(layer)] for name in names}
    upward = {name: own_imports(f"pipeline.{name}") - below - {"transforms"} for name in LAYERS[layer]}
    assert {name: found for name, found in upward.items() if found} == {}


def test_every_module_of_the_harness_has_its_place_and_imports_only_from_layers_below():
    placed = [f"testing.{name}" for names in HARNESS.values() for name in names]
    assert sorted(placed) == sorted(name for name in modules() if name.startswith("testing."))
    below = set()
    for names in HARNESS.values():
        known = {other for name in names for other in own_imports(f"testing.{name}") if other.startswith("testing.")}
        assert known <= below
        below |= {f"testing.{name}" for name in names}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_does_not_know_the_other_stages(stage):
    others = tuple(f"pipeline.{other}" for other in STAGES if other != stage)
    members = [name for name in library() if name.split(".")[0] == stage]
    assert members
    known = {other for name in members for other in own_imports(f"pipeline.{name}") if other.startswith(others)}
    assert known == set()


def test_only_the_wiring_knows_more_than_one_stage():
    def stages_known_to(name):
        found = [other.split(".")[1] for other in own_imports(f"pipeline.{name}") if other.startswith("pipeline.")]
        return set(found) & set(STAGES)

    assert {name for name in library() if len(stages_known_to(name)) > 1} <= WIRING


def test_the_conf_language_imports_nothing_of_jobs_but_the_languages_of_its_words():
    language = {f"pipeline.{name}" for name in ("strict", "source_model", "table_model", "schedule_model", "model")}
    words = {f"pipeline.{name}" for name in ("cron", "dated_path", "durations", "path_text")}
    assert set().union(*(own_imports(name) for name in language)) == words | language - {"pipeline.model"}


def test_the_library_knows_neither_entrypoints_nor_development_nor_the_users_transforms():
    outside = {
        other for name in library() for other in own_imports(f"pipeline.{name}") if not other.startswith("pipeline")
    }
    assert outside <= {"transforms"}
    assert {name for name in library() if "transforms" in own_imports(f"pipeline.{name}")} == {"transforms"}


def test_the_users_transforms_know_nothing_of_the_library():
    assert {name: own_imports(name) for name in modules() if name.startswith("transforms.") and own_imports(name)} == {}


def test_only_the_command_the_fault_harness_and_development_itself_know_development():
    users = {name for name in modules() if any(f"{one}.".startswith("dev.") for one in own_imports(name))}
    harness = {"testing.nemesis", "testing.torture", "testing.workshop"}
    assert {name for name in users if not name.startswith("dev.")} == {"cli", *harness}


def test_orchestration_rests_on_light_modules_of_the_library_alone():
    members = [name for name in modules() if name.startswith("orchestration.")]
    assert members
    known = {other for name in members for other in own_imports(name)}
    assert {other for other in known if not other.startswith("orchestration")} <= {
        "jobs",
        *LIGHT,
        "pipeline.errors",
        "pipeline.durations",
        "pipeline.path_text",
        "pipeline.terminal",
    }
    assert {name for name in members if loaded_by(name) & HEAVY} == set()


def test_dag_files_import_only_what_builds_dags_and_conf():
    for file in (ROOT / "dags").glob("*.py"):
        found = {node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)}
        assert found <= {*DAG_BUILDERS, "jobs.pipeline.conf"}, file


def test_only_orchestration_knows_airflow_and_nothing_knows_orchestration():
    knowing = {name for name in modules() if "airflow" in {found.split(".")[0] for found in imports(name)}}
    assert {name for name in knowing if not name.startswith("orchestration.")} == set()
    users = {name for name in modules() if any(one.startswith("orchestration") for one in own_imports(name))}
    assert {name for name in users if not name.startswith("orchestration.")} == set()


@pytest.mark.parametrize("name", sorted(name for name in modules() if is_package(name)))
def test_a_package_re_exports_nothing(name):
    assert imports(name) == set()


@pytest.mark.parametrize("name", sorted(modules()))
def test_great_expectations_is_imported_nowhere(name):
    assert "great_expectations" not in {found.split(".")[0] for found in imports(name)}


@pytest.mark.parametrize("name", LIGHT)
def test_conf_and_the_command_load_nothing_heavy_by_the_diagram(name):
    assert loaded_by(name) & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        ["--help"],
        ["run", "--help"],
        ["check", "--conf", str(ROOT / "conf")],
        ["run", "--conf", str(ROOT / "conf"), "nope"],
    ],
    ids=lambda arguments: " ".join(["esclusa", *(arguments or ["(import)"])]).replace(str(ROOT), "."),
)
def test_conf_and_the_command_load_nothing_heavy_in_fact(arguments):
    run = "" if arguments is None else f"main({arguments!r}, standalone_mode=False)"
    script = f"""
import sys
from jobs.cli import main
try:
    {run or "pass"}
except SystemExit:
    pass
print("loaded:", *sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.splitlines()[-1].split() == ["loaded:"]


def test_delta_tables_are_read_in_one_place_by_files_that_do_not_abort_a_process_at_its_end():
    readers = [name for name, file in modules().items() if "to_pyarrow" in file.read_text(encoding="utf-8")]
    assert readers == ["pipeline.delta_reader"]


def test_no_module_beside_the_entrypoints_shadows_the_standard_library_or_a_dependency():
    # spark-submit puts jobs/ first on sys.path.
    beside = {name for name in modules() if name and "." not in name}
    imported = {found.split(".")[0] for name in modules() for found in imports(name)} - {"jobs"}
    assert beside & (sys.stdlib_module_names | imported) == set()


def test_spark_submit_and_the_session_take_the_same_jars():
    shipped = read_properties(ROOT / "conf" / "spark-defaults.conf")
    assert shipped["spark.jars.packages"].split(",") == list(PACKAGES)
    assert shipped.items() >= REQUIRED.items()
