"""The question-answering system of chapter 2 as a service: recipe 5.11 explains it, and breaks it.

`python -m rag_service`, from the folder above this one, starts it with nothing configured: a local model, SQLite, a
cache in memory, the book's business documents. Environment variables move it elsewhere: `OPENAI_BASE_URL` (vLLM, a
provider), `SERVICE_DATABASE_URL` (PostgreSQL), `SERVICE_REDIS_URL`; `settings.py` lists them, `production.env` is a set
of them. Keys, limits, errors and logs are those of the chat service (`service/`). The modules, in the order in which a
question meets them:

    settings  the environment
    app       the endpoints, put together
    prompts   which prompt version answers this caller
    cache     answers given before
    index     the passages, searched in memory
    pipeline  one question: cache, search, refuse or ask the model, check
    store     passages, answers, feedback and releases in a database, which may be away
    metrics   what Prometheus reads
    gate      a prompt version on labelled questions, before it may be released
    model     not part of the service: a local model's server in a process of its own
"""
