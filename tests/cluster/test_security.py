"""Users of a running instance: made by the command, known by every replica through the front door, also after whoever
knows them was killed.
"""

import json
import os
import signal
import subprocess
from typing import Any

from tests.cluster.running import RAYFEED, Instance
from tests.polling import wait_until

AUTH = "/api/v1/auth/"
PASSWORD = "Correct-horse-7"


def rayfeed(instance: Instance, *arguments: str, typed: str = "") -> Any:
    done = subprocess.run(
        [RAYFEED, *arguments, "--data", str(instance.data), "--json"],
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sign_in(instance: Instance, name: str) -> tuple[int, Any]:
    body = {"username": name, "password": PASSWORD}
    return instance.send("POST", AUTH + "login", body, **{"Content-Type": "application/json"})


def change(instance: Instance, token: str) -> int:
    body = {"exchange": "binance", "symbols": ["DOGEUSDT"]}
    return instance.send("DELETE", "/api/v1/subscriptions", body, Authorization=f"Bearer {token}")[0]


def test_users_sign_in_through_the_front_door(simulated: Instance) -> None:
    for name, role in (("ann", "admin"), ("rita", "readonly")):
        assert rayfeed(simulated, "user", "add", name, "--role", role, typed=PASSWORD + "\n")["role"] == role
    tokens = {}
    for name in ("ann", "rita"):
        status, said = sign_in(simulated, name)
        assert status == 200, said
        tokens[name] = said["access_token"]
    key = rayfeed(simulated, "key", "add", "ann", "--days", "1")["key"]
    wait_until(lambda: change(simulated, key) == 200)
    assert {name: change(simulated, token) for name, token in tokens.items()} == {"ann": 200, "rita": 403}
    assert change(simulated, "guess") == 401
    for path in ("/api/symbols", "/api/v1/subscriptions", "/readyz"):
        status, headers, _ = simulated.get(path)
        assert (status, headers["x-content-type-options"]) == (200, "nosniff")

    said = simulated.actors()["accounts"]
    os.kill(said["pid"], signal.SIGKILL)
    # Who is signed in stays so meanwhile.
    assert change(simulated, tokens["ann"]) == 200
    wait_until(lambda: sign_in(simulated, "ann")[0] == 200, within_s=60)
    assert (change(simulated, tokens["ann"]), change(simulated, key)) == (200, 200)

    rayfeed(simulated, "user", "remove", "ann")
    wait_until(lambda: change(simulated, tokens["ann"]) == 401 and change(simulated, key) == 401)
    rayfeed(simulated, "user", "remove", "rita")

    def noted() -> bool:
        asked = "SELECT DISTINCT event FROM audit_log WHERE component = 'accounts'"
        events = simulated.inside(
            f"answer = ray.get(find_actor('database').query.remote({asked!r}))['event'].to_pylist()"
        )
        return {"user_added", "login", "key_added", "user_removed"} <= set(events)

    wait_until(noted, within_s=60)
