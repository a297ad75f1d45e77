"""SGLang's own server, which takes token ids and scores the ends of prompts from its cache."""
