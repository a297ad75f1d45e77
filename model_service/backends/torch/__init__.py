"""The torch engine: any Hugging Face causal language model, every token computed once.

backend.py    the port: requests in, proposals and scores out
calls.py      what a call asks of the engine, step by step
lane.py       the one thread that runs the steps of all calls, batched
engine.py     what an engine must do; `packed.py` and `copies.py` do it
packed.py     many sequences in one forward, over the key-value store
attention.py  attention over the store's spans, as transformers' attention interface
store.py      keys and values, found by token prefix; `buffers.py` is the memory itself
copies.py     the fallback for models that the packed engine cannot run
mirror.py     the same engine in several processes; `ranks.py` are the processes
loading.py    from settings to a model, and the choice of its engine
sampling.py   from log-probabilities to a token
"""
