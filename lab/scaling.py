"""Prometheus servers with the configuration of docs/scaling.md: those that share machines, and one for cohorts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.pace import hurried
from lab.servers import Server, start
from lab.tree import REPOSITORY, RULE_FILES

FILES: dict[str, str] = dict(
    re.findall(
        r"^```\w+ (\S+)\n(.*?)^```$",
        (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
"""The files of the page by name."""

Configuration = dict[str, Any]


def shard(number: int, shards: int, alertmanagers: Sequence[str] = ()) -> Configuration:
    """Return the configuration of one of several shards, which sends its alerts to these addresses."""
    configuration = _configuration("shard.yml", alertmanagers)
    configuration["global"]["external_labels"]["shard"] = str(number)
    division, keep, *_ = configuration["scrape_configs"][0]["relabel_configs"]
    division["modulus"], keep["regex"] = shards, str(number)
    return configuration


def cohorts(shards: Sequence[str], alertmanagers: Sequence[str] = ()) -> Configuration:
    """Return the configuration of the global server for shards at these addresses."""
    configuration = _configuration("global.yml", alertmanagers)
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": list(shards)}]
    return configuration


def rules(name: str) -> str:
    """Return the text of a rule file of dashboards/ or of the page."""
    [text] = [one.read_text(encoding="utf-8") for one in RULE_FILES if one.name == name] or [FILES[name]]
    return text


def start_configured(
    release: str, folder: Path, configuration: Configuration, pace: float, scrape: float, evaluate: float
) -> Server:
    """Start a Prometheus that scrapes and evaluates every so many seconds, with waits of rules divided by ``pace``.

    It keeps its files in a folder, which is made; copies of the rule files that the configuration names are among them.
    Raises MissingToolError, LogError.
    """
    folder.mkdir()
    copies = [folder / Path(path).name for path in configuration["rule_files"]]
    for copy in copies:
        copy.write_text(hurried(rules(copy.name), pace))
    written = {
        **configuration,
        "global": {**configuration.get("global", {}), "evaluation_interval": _duration(evaluate)},
        "rule_files": [str(copy) for copy in copies],
        "scrape_configs": [{**job, "scrape_interval": _duration(scrape)} for job in configuration["scrape_configs"]],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(written))
    return start(
        release, "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"
    )


def _configuration(name: str, alertmanagers: Sequence[str]) -> Configuration:
    configuration: Configuration = yaml.safe_load(FILES[name])
    configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": list(alertmanagers)}]}]
    return configuration


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
