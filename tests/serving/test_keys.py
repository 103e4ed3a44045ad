"""API keys: what the file holds, whom it lets in, and how often."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from ray_fer.cli import app
from ray_fer.serving import keys as module
from ray_fer.serving.keys import KeyRing, add_key, read_keys, remove_key
from tests.serving.api_backend import InProcessBackend, on_a_port


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)


def test_the_file_holds_hashes_and_is_its_owners(file: Path) -> None:
    key = add_key(file, "lab", per_minute=60)
    assert key not in file.read_text()
    (entry,) = json.loads(file.read_text())["keys"]
    assert entry["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert (entry["name"], entry["per_minute"]) == ("lab", 60)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len({add_key(file, str(number)) for number in range(5)}) == 5
    assert [one.name for one in read_keys(file)] == ["lab", "0", "1", "2", "3", "4"]
    assert [one.name for one in file.parent.iterdir()] == ["keys.json"]


def test_who_is_let_in_follows_the_file(file: Path) -> None:
    first = add_key(file, "first")
    ring = KeyRing.load(file)
    found = ring.check(first)
    assert found is not None
    assert found.name == "first"
    for wrong in ("", "rf_", first[:-1], first + "x", first.lower(), "é\ud800"):
        assert ring.check(wrong) is None, wrong
    second = add_key(file, "second")
    assert ring.check(second) is not None
    remove_key(file, "first")
    assert ring.check(first) is None
    file.write_text("{")
    assert ring.check(second) is None, "a file that cannot be read lets nobody in"
    file.unlink()
    assert ring.check(second) is None


def test_requests_are_counted_by_key(file: Path) -> None:
    few, many = add_key(file, "few", per_minute=2), add_key(file, "many")
    ring = KeyRing.load(file)
    one, other = ring.check(few), ring.check(many)
    assert one is not None
    assert other is not None
    assert [ring.spend(one), ring.spend(one)] == [0, 0]
    assert 1 <= ring.spend(one) <= 61
    assert all(ring.spend(other) == 0 for _ in range(50))


def test_bad_files_and_names(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError, match=r"keys\.json: no such file of keys; `ray-fer keys create NAME --file"):
        KeyRing.load(file)
    for content in ("", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [], "more": 1}'):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"keys\.json is no file of API keys"):
            KeyRing.load(file)
    file.unlink()
    add_key(file, "lab")
    with pytest.raises(ValueError, match="'lab' has a key already"):
        add_key(file, "lab")
    with pytest.raises(ValueError, match="no key is named 'other'; `ray-fer keys list"):
        remove_key(file, "other")
    file.chmod(0o644)
    KeyRing.load(file)
    assert "can be read by other users" in caplog.text


def test_on_the_command_line(file: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(app, ["keys", "create", "lab", "--file", str(file), "--per-minute", "30"])
    key = made.stdout.strip()
    assert KeyRing.load(file).check(key) is not None
    listed = runner.invoke(app, ["keys", "list", "--file", str(file)]).stdout
    assert "lab" in listed
    assert "30" in listed
    assert key not in listed
    assert runner.invoke(app, ["keys", "remove", "lab", "--file", str(file)]).exit_code == 0
    again = runner.invoke(app, ["keys", "remove", "lab", "--file", str(file)])
    assert again.exit_code == 2


def test_the_api_asks_for_a_key_where_there_are_keys(file: Path) -> None:
    key = add_key(file, "lab", per_minute=3)
    with on_a_port(InProcessBackend(keys=KeyRing.load(file))) as url:
        for path in ("/v1/models", "/v1/streams", "/v1/events", "/v1/statistics", "/metrics"):
            refused = httpx.get(url + path)
            assert refused.status_code == 401, path
            assert "send Authorization: Bearer KEY" in refused.json()["detail"]
            assert refused.headers["www-authenticate"] == "Bearer"
        assert httpx.post(f"{url}/v1/predict").status_code == 401
        wrong = httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer rf_wrong"})
        assert (wrong.status_code, wrong.json()["detail"]) == (401, "no such API key")
        for path in ("/", "/healthz", "/readyz", "/openapi.json", "/docs"):
            assert httpx.get(url + path).status_code == 200, path
        mine = {"Authorization": f"Bearer {key}"}
        assert [httpx.get(f"{url}/v1/models", headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]
        spent = httpx.get(f"{url}/v1/models", headers=mine)
        assert 1 <= int(spent.headers["retry-after"]) <= 61
        remove_key(file, "lab")
        time.sleep(0.05)
        assert httpx.get(f"{url}/v1/models", headers=mine).status_code == 401
