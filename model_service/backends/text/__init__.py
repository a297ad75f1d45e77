"""What a backend needs if its model takes tokens, while the mesh exchanges text.

tokenizer     prompts, segments and contexts as ids that only ever grow
encoders      the model's tokenizer, in the variants needed for that
drafts        a segment in the making: tokens in, text out
detokenizer   what each token adds to a text, in bytes
contexts      a call's ids, checked against the model's window
"""
