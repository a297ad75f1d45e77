"""What a backend needs if its model takes tokens, while the mesh exchanges text.

tokenizer     prompts, segments and contexts as ids that only ever grow
encoders      the model's tokenizer, in the variants needed for that
drafts        a segment in the making: tokens in, text out
detokenizer   what each token adds to a text, in bytes
contexts      a call's ids, checked against the model's window
segments      where a segment in the making ends
loading       a tokenizer from a directory or the hub
lanes         threads that tokenize, long texts apart from short ones
bounds        at least how many tokens a text has
cuts          where a text can be cut without changing its tokens
spelling      which special tokens a text spells
rules         what a tokenizer's JSON says for certain
"""
