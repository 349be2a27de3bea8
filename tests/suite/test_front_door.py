"""The product through its front door: real tokens, Hosting, function URLs, triggers, Pub/Sub, rules."""

import json
from datetime import UTC, datetime
from decimal import Decimal

from tests.suite.support import FAULTY_MODEL, User, eventually, request


def faulty_stream(user: User, conversation: str, content: str):
    """An answer of the model that faults are queued for, as it arrives."""
    return user.stream(f"/api/v1/conversations/{conversation}/messages", {"content": content, "model": FAULTY_MODEL})


def test_health_answers_through_hosting(suite):
    answer = request("GET", f"{suite.hosting}/api/v1/health")
    assert (answer.status, answer.json["status"]) == (200, "ok")
    assert answer.headers["Cache-Control"] == "private, no-store"


def test_the_api_document_and_its_page_are_served(suite):
    document = request("GET", f"{suite.hosting}/api/v1/openapi.json").json
    page = request("GET", f"{suite.hosting}/api/v1/docs").body.decode()
    assert document["openapi"].startswith("3.1")
    for path in document["paths"]:
        assert path in page


def test_an_unknown_path_is_a_problem_and_not_a_page(suite):
    answer = request("GET", f"{suite.hosting}/api/v1/nowhere")
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_every_documented_path_reaches_its_function_through_hosting(suite):
    document = request("GET", f"{suite.hosting}/api/v1/openapi.json").json
    guarded = [
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"]
    ]
    for method, path in guarded:
        answer = request(
            method, suite.hosting + path.replace("{", "").replace("}", ""), {} if method != "GET" else None
        )
        # OpenAI's clients know one code for all of it.
        said = answer.json["error"]["code"] if path.startswith("/v1/") else answer.json["reason"]
        expected = "invalid_api_key" if path.startswith("/v1/") else "missing_token"
        assert (answer.status, said) == (401, expected), (method, path)
    assert len(guarded) >= 12


def test_one_turn_reaches_every_layer(pro, admin):
    before = pro.credits()
    conversation = pro.conversation()
    answer = pro.ask(conversation, "/say Herons stand very still.")
    assert answer.status == 200, answer.body
    turn = answer.json
    assert turn["message"]["parts"][0]["text"] == "Herons stand very still."

    after = pro.credits()
    charged = Decimal(turn["credits"]["credits"])
    assert charged > 0
    assert Decimal(before["available"]) - Decimal(after["available"]) == charged
    assert after["held_micro"] == 0
    entries = pro.api("GET", "/api/v1/credits/entries?limit=2").json["items"]
    assert [entry["kind"] for entry in entries] == ["settle", "hold"]

    stored = pro.api("GET", f"/api/v1/conversations/{conversation}/messages").json["items"]
    assert [message["id"] for message in stored] == [turn["user_message"]["id"], turn["message"]["id"]]

    def logged():
        items = pro.api("GET", "/api/v1/activity?limit=50").json["items"]
        return [entry for entry in items if entry["details"].get("message_id") == turn["message"]["id"]]

    [entry] = eventually(logged, "the activity log")
    assert entry["action"] == "chat.message.completed"
    assert entry["trace_id"] == answer.headers["X-Request-Id"]

    day = datetime.now(UTC).date().isoformat()
    assert eventually(lambda: admin.document(f"analytics_daily/{day}/shards").json.get("documents"), "the counters")
    assert pro.document(f"analytics_daily/{day}/shards").status == 403

    def titled():
        found = pro.api("GET", f"/api/v1/conversations/{conversation}").json
        return found if found["title_source"] == "model" else None

    title = eventually(titled, "the title, made by a Pub/Sub consumer")["title"]
    assert title == " ".join(title.split())
    assert 0 < len(title) <= 60
    found = eventually(
        lambda: pro.api("GET", "/api/v1/conversations/search?q=herons+still").json["items"], "what was said, in search"
    )
    assert conversation in {hit["conversation_id"] for hit in found}


def test_tokens_arrive_while_the_model_still_writes(pro, suite):
    conversation = pro.conversation()
    suite.fault(chunk_delay_ms=60)
    arrived = list(faulty_stream(pro, conversation, "/repeat 40 word"))
    deltas = [at for at, line in arrived if "text-delta" in line]
    assert len(deltas) > 5
    assert deltas[-1] - deltas[0] > 0.5
    assert arrived[-1][1] == "data: [DONE]"


def test_a_lost_stream_is_read_on_through_hosting(pro, suite):
    conversation = pro.conversation()
    suite.fault(chunk_delay_ms=40)
    stream = faulty_stream(pro, conversation, "/repeat 30 word")
    _, first = next(stream)
    generation = json.loads(first.removeprefix("data: "))["messageMetadata"]["generation_id"]
    stream.close()
    events, after, done = [], 0, False
    while not done:
        page = pro.api("GET", f"/api/v1/generations/{generation}/events?after={after}&wait_s=5").json
        events += page["items"]
        after, done = page["next"], page["done"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.get("text", "") for event in events).split() == ["word"] * 30
    assert events[-1]["status"] == "completed"


def test_a_stop_ends_a_running_answer(pro, suite):
    conversation = pro.conversation()
    suite.fault(chunk_delay_ms=50)
    stream = faulty_stream(pro, conversation, "/repeat 300 word")
    _, first = next(stream)
    generation = json.loads(first.removeprefix("data: "))["messageMetadata"]["generation_id"]
    for _, line in stream:
        if "text-delta" in line:
            assert pro.api("POST", f"/api/v1/generations/{generation}/stop").json["stopping"]
            break
    assert "abort" in [json.loads(line.removeprefix("data: "))["type"] for _, line in stream if "{" in line]

    def settled():
        suite.scheduled("sweep")
        return pro.credits()["held_micro"] == 0

    assert eventually(settled, "the sweep to settle")
    message = pro.api("GET", f"/api/v1/conversations/{conversation}/messages").json["items"][-1]
    assert message["status"] == "stopped"
    assert len(message["parts"][0]["text"].split()) < 300


def test_somebody_without_credits_is_told_so(newcomer):
    answer = newcomer.ask(newcomer.conversation(), "Hello")
    assert (answer.status, answer.json["code"]) == (402, "insufficient_credits")
    assert newcomer.credits()["available"] == "0"


def test_a_stranger_finds_nothing(free, newcomer):
    conversation = free.conversation()
    assert newcomer.api("GET", f"/api/v1/conversations/{conversation}").status == 404
    assert newcomer.document(f"users/{free.uid}/conversations/{conversation}").status == 403
    assert free.document(f"users/{free.uid}/conversations/{conversation}").status == 200


def test_a_function_can_be_called_from_a_page_of_another_port(pro):
    answer = pro.direct("chat", "GET", "/api/v1/conversations", Origin="http://localhost:3000")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    strange = pro.direct("chat", "GET", "/api/v1/conversations", Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in strange.headers


def test_a_failed_turn_leaves_one_line_with_its_trace_in_the_log(pro, suite):
    suite.fault(status="401")
    trace_id = "5a" * 16
    conversation = pro.conversation()
    answer = pro.api(
        "POST",
        f"/api/v1/conversations/{conversation}/messages",
        {"content": "Hello", "model": FAULTY_MODEL, "stream": False},
        traceparent=f"00-{trace_id}-{'1' * 16}-01",
    )
    assert (answer.status, answer.json["trace_id"]) == (502, trace_id)

    def lines():
        log = "".join(path.read_text(errors="replace") for path in suite.logs.glob("*.log"))
        return [line for line in log.splitlines() if trace_id in line and '"message":"request"' in line]

    assert len(eventually(lines, "the log line")) == 1


def test_the_model_catalogue_is_the_providers(pro):
    listed = pro.api("GET", "/api/v1/models").json
    assert listed["default"] in [model["id"] for model in listed["items"]]
    assert "openrouter/auto" not in [model["id"] for model in listed["items"]]
