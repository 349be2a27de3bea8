"""Images and files in a prompt: what is taken, what it counts, what it costs, and what is refused."""

import base64
import struct

import pytest

PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
LINK = "https://storage.example/attachments/u/upl_1"


def png(width: int, height: int) -> str:
    content = PNG_HEAD + struct.pack(">II", width, height) + bytes(200)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def pdf(pages: int) -> str:
    content = b"%PDF-1.7\n<< /Type /Pages >>\n" + b"<< /Type /Page >>\n" * pages
    return f"data:application/pdf;base64,{base64.b64encode(content).decode()}"


def image(url: str = f"{LINK}?X-Goog-Signature=1", **more) -> dict:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(data: str = LINK, name: str = "paper.pdf") -> dict:
    return {"type": "file", "file": {"filename": name, "file_data": data}}


def ask(api, *parts, model: str = "openai/gpt-4o-mini", **body):
    messages = [{"role": "user", "content": [{"type": "text", "text": "/say ok"}, *parts]}]
    return api.post("/chat/completions", {"model": model, "messages": messages, **body})


def extra_tokens(api, *parts, **options) -> int:
    """How many tokens the parts add to a prompt."""
    with_parts, without = (ask(api, *some, **options).json["usage"]["prompt_tokens"] for some in (parts, ()))
    return int(with_parts - without)


def engine(name: str) -> dict:
    return {"plugins": [{"id": "file-parser", "pdf": {"engine": name}}]}


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (image(), 2833 + 5667),
        (image(detail="low"), 2833),
        (image(png(512, 512)), 2833 + 5667),
        (image(png(1024, 1024)), 2833 + 4 * 5667),
        (image(png(4096, 8192)), 2833 + 6 * 5667),
        (image(png(300, 9000)), 2833 + 4 * 5667),
        (image(png(0, 0)), 2833 + 5667),
    ],
    ids=["a link", "low detail", "a tile", "a square", "a large one", "a long one", "of no size"],
)
def test_the_dearest_model_counts_an_image_by_its_tiles(api, part, tokens):
    assert extra_tokens(api, part) == tokens


def test_other_models_count_every_image_alike(api):
    assert extra_tokens(api, image(), image(png(4096, 4096)), model="google/gemini-2.5-flash") == 2 * 258


def test_links_to_one_file_count_the_same_however_they_are_signed(api):
    signed = [image(f"{LINK}?X-Goog-Signature={'0' * length}") for length in (10, 900)]
    answers = [ask(api, part).json for part in signed]
    assert answers[0]["usage"] == answers[1]["usage"]
    assert answers[0]["choices"] == answers[1]["choices"]


def test_an_image_is_charged_as_prompt(api):
    usage = ask(api, image()).json["usage"]
    assert usage["cost"] == pytest.approx(usage["prompt_tokens"] * 0.15e-6 + usage["completion_tokens"] * 0.6e-6)
    assert api.usage() == usage["cost"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (image(), "image input"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "input audio"),
        ({"type": "video_url", "video_url": {"url": LINK}}, "input video"),
    ],
    ids=["image", "audio", "video"],
)
def test_what_a_model_cannot_take_has_no_endpoint(api, part, words):
    refused = ask(api, part, model="deepseek/deepseek-chat")
    assert (refused.status, refused.json["error"]["code"]) == (404, 404)
    assert refused.json["error"]["message"] == f"No endpoints found that support {words}"
    assert api.usage() == 0


def test_a_fallback_that_can_see_answers(api):
    reply = ask(api, image(), model="deepseek/deepseek-chat", models=["openai/gpt-4o-mini"])
    assert (reply.status, reply.json["model"]) == (200, "openai/gpt-4o-mini")


@pytest.mark.parametrize(
    ("part", "error_type"),
    [
        ({"type": "image_url"}, "invalid_request"),
        ({"type": "image_url", "image_url": {"url": 5}}, "invalid_request"),
        (image("ftp://x/y.png"), "invalid_image"),
        (image("data:image/png,AAAA"), "invalid_image"),
        (image("data:image/svg+xml;base64,AAAA"), "unsupported_image_format"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "invalid_request"),
        ({"type": "file", "file": "a.pdf"}, "invalid_request"),
        (file("data:application/pdf;base64,=not base64="), "invalid_request"),
    ],
    ids=str,
)
def test_a_part_that_holds_nothing_to_look_at_is_refused(api, part, error_type):
    refused = ask(api, part)
    assert refused.status == 400
    assert refused.json["error"]["metadata"]["error_type"] == error_type
    assert "messages.0.content.1" in refused.json["error"]["message"]


def test_every_model_takes_files_because_they_are_parsed(api):
    reply = ask(api, file(pdf(1)), model="deepseek/deepseek-chat", **engine("pdf-text")).json
    [annotation] = reply["choices"][0]["message"]["annotations"]
    assert (annotation["type"], annotation["file"]["name"]) == ("file", "paper.pdf")
    assert annotation["file"]["content"][0] == {"type": "text", "text": '<file name="paper.pdf">'}


def test_a_stream_tells_of_parsed_files_too(api):
    events = ask(api, file(), stream=True, **engine("pdf-text")).events
    annotations = [
        each for event in events for choice in event["choices"] for each in choice["delta"].get("annotations", ())
    ]
    assert [each["type"] for each in annotations] == ["file"]


def test_a_file_counts_by_its_size_and_as_a_link_as_a_page(api):
    assert extra_tokens(api, file()) == extra_tokens(api, file(f"{LINK}?signed")) == 750
    assert 0 < extra_tokens(api, file(pdf(1))) < extra_tokens(api, file(pdf(300)))


@pytest.mark.parametrize("free", ["pdf-text", "cloudflare-ai"])
def test_the_text_engine_costs_nothing_and_the_other_one_by_the_page(api, free):
    without = ask(api, file(pdf(3)), **engine(free)).json["usage"]
    assert without["cost"] == without["cost_details"]["upstream_inference_cost"]
    paid = ask(api, file(pdf(3)), **engine("mistral-ocr")).json["usage"]
    assert paid["cost"] == pytest.approx(paid["cost_details"]["upstream_inference_cost"] + 3 * 0.002)
    assert paid["prompt_tokens"] == without["prompt_tokens"]


def test_without_a_wish_a_model_reads_files_itself_or_pays_for_pages(api):
    itself = ask(api, file(pdf(2))).json
    assert "annotations" not in itself["choices"][0]["message"]
    assert itself["usage"]["cost"] == itself["usage"]["cost_details"]["upstream_inference_cost"]
    cannot = ask(api, file(pdf(2)), model="openai/gpt-5.1-codex-mini").json["usage"]
    assert cannot["cost"] == pytest.approx(cannot["cost_details"]["upstream_inference_cost"] + 2 * 0.002)


def test_a_model_that_reads_no_files_cannot_be_made_to(api):
    refused = ask(api, file(), model="deepseek/deepseek-chat", **engine("native"))
    assert (refused.status, refused.json["error"]["message"]) == (404, "No endpoints found that support file input")


def test_an_unknown_engine_is_refused(api):
    refused = ask(api, file(), **engine("guess"))
    assert refused.status == 400
    assert "plugins.pdf.engine" in refused.json["error"]["message"]


def test_pages_are_billed_also_to_those_who_bring_their_own_key(api):
    usage = api.post(
        "/chat/completions",
        {
            "model": "openai/gpt-4o-mini",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "/say ok"}, file(pdf(2))]}],
            **engine("mistral-ocr"),
        },
        X_Standin_Faults="byok",
    ).json["usage"]
    assert (usage["is_byok"], usage["cost"]) == (True, pytest.approx(2 * 0.002))


def test_a_recorded_cost_with_a_parsed_page_comes_out_exactly(api):
    """31 prompt and 80 completion tokens of gpt-5.1-codex-mini and one page: 0.00216775 USD."""
    from emulator.openrouter import catalogue
    from emulator.openrouter.money import pico_from_usd
    from emulator.openrouter.pricing import Tokens

    found = catalogue.find("openai/gpt-5.1-codex-mini")
    assert found is not None
    cost = found.model.price.cost(Tokens(31, 80, reasoning=64, parsed_pages=1))
    assert (cost.total, cost.prompt, cost.completion) == tuple(
        pico_from_usd(usd) for usd in ("0.00216775", "0.00000775", "0.00016")
    )
