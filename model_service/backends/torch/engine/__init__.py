"""Runs steps of many calls over cached contexts.

engine      what an engine must do: contexts opened as leases, steps run over them
packed      many sequences in one forward pass, over the key-value store
copies      the fallback for models that the packed engine cannot run
attention   attention over the store's spans, as transformers' attention interface
store       keys and values found by token prefix, in a byte budget; `nodes` are its tree
lease       a call's hold on a cached context
buffers     the memory of keys and values
linear      matrix products of a few rows on a CPU
sampling    from log-probabilities to a token
memory      telling a lack of memory from other failures
"""
