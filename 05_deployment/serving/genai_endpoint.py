"""The least OpenAI-compatible server around onnxruntime-genai's engine, for recipe 5.5: no keys, no limits, no cancelling.

python genai_endpoint.py FOLDER --port PORT; FOLDER holds what `onnxruntime_genai.models.builder` has written.
"""

import asyncio
import json
import queue
import sys
import threading

import numpy as np
import onnxruntime_genai as og
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

folder, _, port = sys.argv[1:]
model, inbox, app = og.Model(folder), queue.SimpleQueue(), FastAPI()
tokenizer = og.Tokenizer(model)


def work() -> None:
    """Take what has come, make a step, hand out the tokens."""
    engine = og.Engine(model)  # belongs to the thread that makes it
    buffer, streams = engine.create_event_buffer(64), {}
    while True:
        while not inbox.empty() or not engine.has_pending_requests():
            ids, tokens, send = inbox.get()
            request = engine.create_request()
            options = og.TurnOptions(request)
            options.set_do_sample(False)
            options.set_min_generated_tokens(tokens)  # for the load test: exactly so many
            options.set_max_generated_tokens(tokens)
            request.begin_turn(ids, options)
            streams[request] = send, tokenizer.create_stream()
        for event in engine.run(buffer):
            send, text = streams[event.request]
            if event.flags.value & og.EngineEventFlags.TOKEN.value:
                send(text.decode(event.token))
            if event.finish_reason != og.FinishReason.NONE:
                send(None)
                del streams[event.request]
                event.request.close()


@app.get("/health")
def health() -> dict:
    return {}


@app.post("/v1/chat/completions")
async def chat(body: dict) -> StreamingResponse:
    prompt = tokenizer.apply_chat_template(json.dumps(body["messages"]), add_generation_prompt=True)
    ids = np.array(tokenizer.encode(prompt), dtype=np.int32)
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue()
    inbox.put(
        (ids, body["max_tokens"], lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece))
    )

    def event(choices: list, **more) -> str:
        fixed = {
            "id": "chat",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": body["model"],
        }
        return f"data: {json.dumps(fixed | {'choices': choices} | more)}\n\n"

    async def events():
        count = 0
        while (piece := await pieces.get()) is not None:
            count += 1
            yield event([{"index": 0, "delta": {"content": piece}}])
        usage = {
            "prompt_tokens": len(ids),
            "completion_tokens": count,
            "total_tokens": len(ids) + count,
        }
        yield event([], usage=usage) + "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


threading.Thread(target=work, daemon=True).start()
uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
