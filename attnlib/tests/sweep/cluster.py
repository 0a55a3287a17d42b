"""A real Slurm of two nodes on this host, in a folder of its own, on the loopback address, ended by process id."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
NODES = ("n1", "n2")
PAUSE = 3.0  # seconds; a node kills a job that starts within a second of its requeue: "Job credential revoked"
CONFIGURATION = """\
ClusterName=attnlib
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldParameters=enable_configless
KillWait=5
OverTimeLimit=0
SlurmdTimeout=30
InactiveLimit=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP
PartitionName=one Nodes=n1 MaxTime=60 State=UP
"""


def lacking():
    """Why there can be no Slurm here; None where there can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "slurmd starts jobs of others, which takes root"


PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/usr/bin"


def free_ports(count):
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


class Cluster:
    """Two nodes of one core each.

    Args:
        folder: for its configuration, state and logs.
    """

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}
        self.waiting = {}  # jobs that were queued again, and when that was first seen
        controller, *ports = free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000"
            for node, port in zip(NODES, ports, strict=True)
        ]
        text = CONFIGURATION.format(
            host=socket.gethostname(), controller=controller, folder=folder, nodes="\n".join(nodes)
        )
        (folder / "slurm.conf").write_text(text)
        (folder / "state").mkdir()
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}

    def start(self):
        """Start everything, and wait until the nodes are idle."""
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self.launch(
            "munged",
            *("--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket"),
            *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log"),
            f"--seed-file={self.folder}/munged.seed",
        )
        while not (self.folder / "munge.socket").exists():
            assert self.processes["munged"].poll() is None, (self.folder / "munged.out").read_text()
            time.sleep(0.05)
        self.launch("slurmctld", "-D", "-c")
        for node in NODES:
            self.node_up(node)
        self.until(lambda: self.ask("sinfo", "-h", "-o", "%T").split() == ["idle"], 60)

    def launch(self, program, *arguments, name=None):
        """Start a program of Slurm's in the foreground."""
        with (self.folder / f"{name or program}.out").open("wb") as out:
            command = [shutil.which(program, path=PATH), *arguments]
            self.processes[name or program] = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def node_up(self, node):
        """Start a node."""
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self.launch("slurmd", "-D", "-N", node, name=node)

    def ask(self, *command):
        """Return what a command of Slurm's prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def until(self, condition, seconds):
        """Wait for something."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "\n".join(
                f"{path.name}: {path.read_text(errors='replace')[-3000:]}" for path in self.folder.glob("*.log")
            )
            time.sleep(0.2)
        return found

    def power_off(self, node):
        """A node's processes are gone at once: its daemon, its jobs, and what watches over these."""
        process = self.processes.pop(node)
        doomed = {process.pid: psutil.Process(process.pid)}
        for member in psutil.process_iter(["environ"]):
            if (member.info["environ"] or {}).get("SLURMD_NODENAME") == node:
                watchers = [own for own in member.parents() if own.name().startswith("slurmstepd")]
                doomed |= {own.pid: own for own in (member, *watchers)}
        for member in doomed.values():
            member.kill()
        process.wait()

    def hasten(self):
        """Let jobs that were queued again start after ``PAUSE``, rather than in two minutes as Slurm has it."""
        lines = self.ask("squeue", "-h", "-t", "PENDING", "-o", "%i|%r").splitlines()
        jobs = [line.partition("|")[0] for line in lines if line.endswith("|BeginTime")]
        now = time.monotonic()
        self.waiting = {job: self.waiting.get(job, now) for job in jobs}
        for job in [job for job, since in self.waiting.items() if now - since > PAUSE]:
            self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            del self.waiting[job]  # it may be queued again

    def stop(self):
        """End everything that was started."""
        self.ask("scancel", "--state=PENDING", "--user=root")
        self.ask("scancel", "--user=root")
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                process.kill()
