"""Makes a run directory out of another tool's run."""

from pathlib import Path
from typing import Any

import yaml

from specdec_bench.archive import RunDirectory, codec, files, provenance
from specdec_bench.archive.imports.measured import Imported
from specdec_bench.archive.redact import redact_text
from specdec_bench.records.manifest import ArchivedDataset, ImportedFrom, Manifest
from specdec_bench.records.prompts_hash import prompts_fingerprint
from specdec_bench.records.request import SCHEMA_VERSION
from specdec_bench.runner.cell import encoded_summary, samples_of


def import_run(imported: Imported, folder: Path, method: str, command: list[str]) -> RunDirectory:
    """Writes an imported run into a folder and returns it, summarized.

    Raises:
        ArchiveError: the folder holds a run already, or cannot be written.
    """
    tree: dict[str, Any] = {
        "engine": {"name": imported.tool},
        "model": {"name": imported.model or "unknown"},
        "dataset": {"name": "imported"},
        "spec": {"name": method, "draft_length": imported.draft_length},
        "load": {"name": "imported"},
        "sampling": {},
        "seed": None,
    }
    now = provenance.utc_now()
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=provenance.new_run_id(),
        status="finished",
        created_utc=now,
        finished_utc=now,
        command=tuple(map(redact_text, command)),
        overrides=(),
        config=tree,
        project=provenance.project(),
        dataset=ArchivedDataset(
            name="imported", sha256=prompts_fingerprint(imported.prompts), num_prompts=len(imported.prompts)
        ),
        engine_totals=imported.totals,
        imported=ImportedFrom(
            tool=imported.tool, file=imported.path.name, sha256=imported.sha256, notes=tuple(imported.notes)
        ),
    )
    config = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    run = RunDirectory.create(folder, manifest, imported.prompts, config)
    files.write_atomically(run.requests_path, [codec.encode_line(record) for record in imported.requests])
    run.write_responses(())
    run.write_summary(encoded_summary(samples_of(run), manifest))
    run.write_manifest(manifest)
    return run
