"""The torch engine: any Hugging Face causal language model, every token computed once.

settings          its section of the settings file
backend           the port: requests in, proposals and scores out; opens the rest
calls             what a call asks of the engine, step by step
scheduler         the one thread that runs the steps of all calls, batched
reading           weights, ahead of who maps them
loading           from settings to a model and its tokenizer
capability        which engine a model can run on, found by trial
engine/           runs the steps in as few forward passes as possible
tensor_parallel/  the same engine in several processes
"""
