"""What a program sees that uses LangChain's ChatOpenAI and OpenAIEmbeddings. Prints one JSON document."""

import asyncio
import json
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from world import ASK_WEATHER, FAULTY_MODEL, MODEL, WEATHER, error_of, fault, no_more_faults

llm = ChatOpenAI(model=MODEL, max_retries=0, timeout=60)


def streamed(model: ChatOpenAI) -> dict[str, Any]:
    whole: Any = None
    for chunk in model.stream("/say one two three four"):
        whole = chunk if whole is None else whole + chunk
    return {"text": whole.content, "usage": whole.usage_metadata, "metadata": whole.response_metadata}


def tools() -> dict[str, Any]:
    able = llm.bind_tools([WEATHER])
    question = HumanMessage(ASK_WEATHER[0]["content"])
    called = able.invoke([question])
    result = ToolMessage('{"degrees": 31}', tool_call_id=called.tool_calls[0]["id"])
    answer = able.invoke([question, called, result, HumanMessage("/say 31 degrees.")])
    pieces: Any = None
    for chunk in able.stream([question]):
        pieces = chunk if pieces is None else pieces + chunk
    return {
        "calls": [{"name": call["name"], "args": call["args"]} for call in called.tool_calls],
        "streamed": [{"name": call["name"], "args": call["args"]} for call in pieces.tool_calls],
        "answer": answer.content,
    }


def structured() -> Any:
    city = {
        "title": "city",
        "description": "A city.",
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["name", "people"],
        "additionalProperties": False,
    }
    return llm.with_structured_output(city, method="json_schema", strict=True).invoke("A city")


def broken() -> dict[str, Any]:
    fault("stream_error_c")
    faulty = ChatOpenAI(model=FAULTY_MODEL, max_retries=0, timeout=60)
    found = error_of(lambda: list(faulty.stream("/say one two three four five")))
    no_more_faults()
    return found


def embeddings() -> dict[str, Any]:
    made = OpenAIEmbeddings(model="openai/text-embedding-3-small", dimensions=8, check_embedding_ctx_length=False)
    return {
        "documents": [len(each) for each in made.embed_documents(["one", "two"])],
        "query": len(made.embed_query("a")),
    }


answer = llm.invoke("/say Merhaba dünya 👋")
print(
    json.dumps(
        {
            "plain": {
                "text": answer.content,
                "usage": answer.usage_metadata,
                "model": answer.response_metadata["model_name"],
            },
            "asynchronous": asyncio.run(llm.ainvoke("/say later")).content,
            "streamed": streamed(llm),
            "streamed_with_usage": streamed(ChatOpenAI(model=MODEL, stream_usage=True, timeout=60)),
            "tools": tools(),
            "structured": structured(),
            "embeddings": embeddings(),
            "no_model": error_of(lambda: ChatOpenAI(model="nobody/knows-this", max_retries=0).invoke("x")),
            "broken": broken(),
        }
    )
)
