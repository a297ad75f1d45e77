"""llama.cpp's llama-server, which takes token ids and forces tokens by a grammar."""
