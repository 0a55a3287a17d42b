"""Arguments and variables of sbatch, a fake one that keeps its environment, when the tasks of a sweep are submitted."""

import os

import pytest

from attnlib.sweep import slurm

pytest.importorskip("submitit")


@pytest.fixture(name="submitted")
def _submitted(sweep, tmp_path, monkeypatch):
    """Submits a sweep with these options of sbatch and variables; returns what sbatch has of the variables."""

    def submit(options, variables):
        kept = tmp_path / "environment"
        for name, text in (("sbatch", f"env > {kept}; echo Submitted batch job 12"), ("srun", "")):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        begun = sweep("--cells=6", place="slurm", sbatch={"time": "5", **options})
        slurm.submit(begun, begun.tasks, 3)
        assert [jobs.job for jobs in slurm.jobs_of(begun.folder)] == ["12"]
        found = dict(line.split("=", 1) for line in kept.read_text().splitlines() if "=" in line)
        return {name: found[name] for name in variables if name in found}

    return submit


def test_jobs_do_not_inherit_the_allocation_in_which_they_are_submitted(submitted):
    """Neither its CPUs and memory nor options of sbatch's and srun's; the command itself keeps its variables."""
    names = ("SLURM_JOB_ID", "SLURM_CPU_BIND", "SLURM_MEM_PER_CPU", "SLURM_CPUS_PER_TASK", "SLURMD_NODENAME")
    variables = dict.fromkeys(
        [*names, "SRUN_DEBUG", "SBATCH_MEM_BIND", "SBATCH_JOB_NAME", "PMI_RANK", "PMIX_RANK"], "1"
    )

    assert submitted({}, variables) == {}
    assert {name: os.environ[name] for name in variables} == variables


def test_the_cluster_and_account_that_a_site_sets_are_kept(submitted):
    """So is every variable that is not Slurm's."""
    variables = {"SLURM_CONF": "/site/slurm.conf", "SLURM_CLUSTERS": "a", "SBATCH_ACCOUNT": "lab", "OTHER": "kept"}

    assert submitted({}, variables) == variables


def test_options_that_are_given_win_over_variables(submitted):
    """Slurm would let a variable win over a line of the job's script."""
    variables = {"SBATCH_PARTITION": "other", "SBATCH_ACCOUNT": "lab"}

    assert submitted({"partition": "main"}, variables) == {"SBATCH_ACCOUNT": "lab"}
