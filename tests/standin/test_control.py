"""The control surface: health, page, reset, keys, the journal, the queue of faults."""

import pytest

KEY = "sk-or-v1-another"


def test_health_answers_without_a_key(api):
    assert api.get("/_standin/health", key=None).json["status"] == "ok"


def test_the_page_shows_models_keys_requests_and_faults(api):
    api.chat("/say <b>", faults="byok")
    page = api.get("/_standin/", key=None).text
    for shown in (
        "openai/gpt-5-mini",
        "sk-or-v1-tes...ite",
        "POST /api/v1/chat/completions",
        "stream_error_a[=N]",
        "byok",
    ):
        assert shown in page


def test_what_others_send_is_escaped_on_the_page(api):
    api.chat(model="<script>alert(1)</script>")
    assert "<script>" not in api.get("/_standin/").text


def test_a_balance_can_be_set(api):
    assert api.post("/_standin/keys", {"key": KEY, "balance_usd": "0.000000000001"}).json["balance_usd"] == 1e-12
    assert api.get("/key", key=KEY).json["data"]["limit_remaining"] == 1e-12
    assert api.get("/_standin/keys").json["keys"][0]["balance_usd"] == 1e-12


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"key": "x"},
        {"key": KEY, "balance_usd": "much"},
        {"key": KEY, "balance_usd": "NaN"},
        {"key": KEY, "management": 1},
    ],
)
def test_a_malformed_key_is_refused(api, wrong):
    assert api.post("/_standin/keys", wrong).status == 400


def test_reset_forgets_everything(api):
    generation_id = api.chat(faults="generation_404_ms=0").json["id"]
    assert api.get(f"/generation?id={generation_id}").status == 200
    api.post("/_standin/reset", None)
    assert api.get(f"/generation?id={generation_id}").status == 404
    assert api.usage() == 0


def test_the_journal_keeps_what_was_asked(api):
    api.chat("/say ok", faults="byok", user="u-7")
    api.get("/key")
    first, second = api.requests()
    assert (first["method"], first["path"], first["status"]) == ("POST", "/api/v1/chat/completions", 200)
    assert (first["body"]["user"], first["model"], first["fault"]) == ("u-7", "openai/gpt-4o-mini", "byok")
    assert first["headers"]["x-standin-faults"] == "byok"
    assert "authorization" not in first["headers"]
    assert second["path"] == "/api/v1/key"
    assert len(api.requests(path="/key")) == len(api.requests(limit="1")) == 1


def test_the_journal_shows_running_requests(api):
    with api.raw_chat("/tokens 500", "chunk_delay_ms=20", stream=True) as connection:
        connection.recv(100)
        assert api.requests()[0]["state"] == "running"
    assert api.eventually(lambda: api.requests()[0]["state"] == "cancelled")


def test_large_bodies_are_counted_and_not_kept(api):
    api.chat("x" * 300_000)
    assert api.requests()[0]["body"]["omitted_bytes"] > 300_000


def test_one_line_is_logged_for_each_request(api):
    cost = api.chat(faults="keepalive=0").json["usage"]["cost"]
    (line,) = api.eventually(lambda: [line for line in api.lines if "/chat/" in line])
    assert line.startswith("POST /api/v1/chat/completions 200 ")
    assert "fault=keepalive=0 cost=0.00" in line
    assert float(line.rpartition("=")[2]) == cost


def test_queued_faults_reach_a_client_that_sends_no_headers(api):
    queued = {"times": 2, "match": {"path": "/chat/completions", "model": "openai/o3"}, "faults": {"status": 529}}
    assert api.post("/_standin/faults", queued).json["queue"][0]["times"] == 2
    statuses = [api.chat(model=model).status for model in ("openai/gpt-4o-mini", "openai/o3", "openai/o3", "openai/o3")]
    assert statuses == [200, 529, 529, 200]


def test_the_queue_takes_text_and_can_be_emptied(api):
    api.post("/_standin/faults", {"faults": "status=500,retry_after=1"})
    assert api.get("/_standin/faults").json["queue"][0]["faults"] == {"status": "500", "retry_after": 1}
    assert api.call("DELETE", "/_standin/faults").json["queue"] == []
    assert api.chat().status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"faults": {"nonsense": 1}},
        {"faults": {"status": 418}},
        {"times": 0, "faults": {"byok": True}},
        {"match": {"header": "x"}, "faults": {"byok": True}},
        {"match": {"model": 5}, "faults": {"byok": True}},
    ],
)
def test_a_malformed_fault_is_refused(api, wrong):
    assert api.post("/_standin/faults", wrong).status == 400


def test_a_path_cannot_forge_a_log_line(api):
    api.get("/nothing%0AGET%20/forged%20200")
    assert api.eventually(lambda: api.lines)[0].startswith("GET /api/v1/nothing?GET /forged 200 404 ")
