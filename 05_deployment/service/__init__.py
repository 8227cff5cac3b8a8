"""A chat endpoint as one ships it: FastAPI in front of any OpenAI-compatible model.

Start it from the folder above this one with `python -m service`. Every setting
is an environment variable: `settings.py` lists them. The modules, in the order
in which a request meets them:

    logs      request id, one JSON line a request
    limits    body size, rate per key, bounded concurrency with a bounded queue
    auth      bearer keys
    schemas   what may be asked, what is answered
    upstream  the model, and when it is asked again
    disconnect  what stops when the client leaves
    stream    server-sent events
    metrics   what is inside and what is over, for Prometheus
    usage     tokens and money, per request and per key
    errors    every failure as RFC 9457 problem+json
    app       puts them together
    faults    not part of the service: a proxy that misbehaves on request
"""
