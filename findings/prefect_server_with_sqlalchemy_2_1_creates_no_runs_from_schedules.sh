#!/usr/bin/env bash
# Versions:  CPython 3.11, Prefect 3.8.8, SQLAlchemy 2.0.58 and 2.1.9, FastAPI 0.139.0, SQLite
# Behaviour: Prefect 3.8.8 permits SQLAlchemy 2.1. The server starts with it, accepts deployments and runs flows that are
#            started by hand, but its scheduler creates no run from any schedule. The only trace is an error in the log of
#            the server, once per cycle: "Can't evaluate bulk DML statement". With SQLAlchemy 2.0.58, runs are scheduled
#            within seconds.
# Remedy:    Require sqlalchemy<2.1 beside this version of Prefect.
# Output:    SQLAlchemy 2.0.58: runs are scheduled
#            SQLAlchemy 2.1.9: no run is scheduled in 40 s; bulk DML error in the log
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS=2

cat > schedule.py <<'PYTHON'
import sys
import time
import urllib.request
from datetime import timedelta
from uuid import UUID

import sqlalchemy
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL

for _ in range(120):
    try:
        urllib.request.urlopen(f"{PREFECT_API_URL.value()}/health", timeout=2)
        break
    except OSError:
        time.sleep(1)
with get_client(sync_client=True) as client:
    flow = client.create_flow_from_name("nightly")
    schedule = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=1)), active=True)
    client.create_deployment(flow_id=UUID(str(flow)), name="nightly", schedules=[schedule])
    seen = 0
    until = time.monotonic() + 40
    while not seen and time.monotonic() < until:
        time.sleep(1)
        seen = len(client.read_flow_runs())
log = open("server.log").read()
print(f"SQLAlchemy {sqlalchemy.__version__}: ", end="")
if seen:
    print("runs are scheduled")
else:
    reason = "bulk DML error in the log" if "Can't evaluate bulk DML statement" in log else "another error"
    print(f"no run is scheduled in 40 s; {reason}")
PYTHON

python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check prefect==3.8.8 'fastapi==0.139.0'
for version in 2.0.58 2.1.9; do
  env/bin/pip install --quiet --disable-pip-version-check "sqlalchemy[asyncio]==$version"
  port=$(env/bin/python -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
  export PREFECT_HOME="$folder/home-$version" PREFECT_API_URL="http://127.0.0.1:$port/api"
  env/bin/python -m prefect server start --host 127.0.0.1 --port "$port" > server.log 2>&1 &
  server=$!
  env/bin/python schedule.py 2>> client.log | tee -a seen.txt
  kill "$server"
  wait "$server" || true
  server=
done
diff seen.txt - <<'EXPECTED'
SQLAlchemy 2.0.58: runs are scheduled
SQLAlchemy 2.1.9: no run is scheduled in 40 s; bulk DML error in the log
EXPECTED
