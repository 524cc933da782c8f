#!/usr/bin/env bash
# Starts a Slurm cluster of this one machine from Debian's packages, as root and without systemd. Does nothing where
# Slurm answers already.
set -euo pipefail

answers() { timeout 10 sinfo --noheader --format=%T 2>/dev/null | grep -Eq '^(idle|mixed|allocated)$'; }

if answers; then exit 0; fi
if ! command -v slurmctld slurmd munged >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq --yes --no-install-recommends slurm-wlm munge >/dev/null
fi

mkdir -p /run/munge /etc/slurm /var/lib/slurm/ctld /var/spool/slurmd /var/log/slurm
chown munge: /run/munge
pgrep -x munged >/dev/null || runuser -u munge -- /usr/sbin/munged

conf=/etc/slurm/slurm.conf
if [[ -e $conf ]] && ! grep -q specdec-bench-tests $conf; then
  echo "error: $conf is of another cluster, which does not answer; start that one" >&2
  exit 1
fi
host=$(hostname -s)
cpus=$(nproc)
cat >$conf <<CONF
ClusterName=specdec-bench-tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=/var/lib/slurm/ctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
KillWait=10
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=tests Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

pgrep -x slurmctld >/dev/null || slurmctld
pgrep -x slurmd >/dev/null || slurmd
for _ in $(seq 60); do
  if answers; then exit 0; fi
  sleep 1
done
echo "error: Slurm does not answer; see /var/log/slurm" >&2
tail -n 20 /var/log/slurm/*.log >&2
exit 1
