"""vLLM's OpenAI-compatible server, which takes token ids and scores prompts."""
